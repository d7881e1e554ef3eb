"""Photos of none of the classes, and the evidence, on the page in a real Chromium."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Request, expect

from tests.app.routes.test_page_browser import (
    card,
    choose,
    colour,
    counted_feedback,
    loads,
    metric,
    send_feedback,
    shares,
)
from tests.conftest import BLUE, RED, encode
from tests.helpers.chromium import opened
from tests.helpers.graphs import GREEN, write_telling
from tests.helpers.service import Service, running

CARD = "# A card\n\n<b>bold</b>, ünïcode\n"
WHY = "Show evidence"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    model = write_telling(tmp_path_factory.mktemp("model") / "model.pt", CARD)
    with running(LOG_LEVEL="error", MODEL_URL=model.as_uri()) as service:
        service.wait()
        yield service


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    with opened(browser, service.port, reduced_motion="reduce") as page:
        yield page


def file(name: str, pixels: np.ndarray, **options: object) -> dict:
    return {"name": name, "mimeType": "image/png", "buffer": encode(pixels, "PNG", **options)}


def test_a_photo_of_neither_class_gets_a_message(page: Page) -> None:
    choose(page, colour("grass.jpg", GREEN), colour("rose.jpg", RED))
    grass = card(page, "grass.jpg")
    expect(grass.locator(".label")).to_have_text("Something else")
    expect(grass.locator(".message")).to_have_text("This seems to be something other than red or blue.")
    expect(grass.locator(".instead")).to_have_text("If it were one of these classes:")
    bars = shares(grass)
    assert set(bars) == {"red", "blue"}
    assert sum(bars.values()) == pytest.approx(100, abs=0.2)
    expect(grass.locator(".top")).to_have_count(0)
    rose = card(page, "rose.jpg")
    expect(rose.locator(".label")).to_have_text("red")
    expect(rose.locator(".message")).to_be_hidden()
    expect(rose.locator(".instead")).to_be_hidden()
    expect(rose.locator(".top")).to_have_count(1)

    def thickness(answered: Locator) -> float:
        box = answered.locator(".track").first.bounding_box()
        assert box
        return box["height"]

    assert thickness(grass) < thickness(rose)


def test_it_is_announced(page: Page) -> None:
    choose(page, colour("grass.jpg", GREEN))
    expect(page.locator("#announce")).to_have_text(
        "grass.jpg: This seems to be something other than red or blue."
    )


@pytest.mark.parametrize(
    ("photo", "clicks", "actual", "predicted", "thanks"),
    [
        (RED, ["The prediction is wrong", "neither"], "unknown", "red", "Noted as neither"),
        (RED, ["The prediction is wrong", "blue"], "blue", "red", "Noted as blue"),
        (RED, ["The prediction is right"], "red", "red", "Thank you."),
        (GREEN, ["The prediction is right"], "unknown", "unknown", "Thank you."),
        (GREEN, ["The prediction is wrong", "blue"], "blue", "unknown", "Noted as blue"),
    ],
)
def test_feedback_offers_neither(
    page: Page, service: Service, photo: tuple, clicks: list[str], actual: str, predicted: str, thanks: str
) -> None:
    sample = f'feedback_total{{actual="{actual}",predicted="{predicted}"}}'
    before = metric(service, sample)
    choose(page, colour("a.jpg", photo))
    for name in clicks:
        card(page, "a.jpg").get_by_role("button", name=re.compile(f"^{name}(: a.jpg)?$")).click()
    expect(card(page, "a.jpg").locator(".thanks")).to_contain_text(thanks)
    send_feedback(page)
    counted_feedback(service, page, sample, before + 1)
    for thumb in card(page, "a.jpg").locator(".thumb").all():
        expect(thumb).to_be_disabled()
    expect(card(page, "a.jpg").locator(".others")).to_be_hidden()


def test_a_judgement_that_is_being_corrected_is_not_sent(browser: Browser, service: Service) -> None:
    sample = 'feedback_total{actual="blue",predicted="red"}'
    before = metric(service, sample)
    with opened(browser, service.port) as page:
        page.clock.install()
        page.reload()
        choose(page, colour("a.jpg", RED))
        rose = card(page, "a.jpg")
        rose.get_by_role("button", name="The prediction is right").click()
        rose.get_by_role("button", name="The prediction is wrong").click()
        expect(rose.locator(".up")).to_have_attribute("aria-pressed", "false")
        page.clock.run_for(9000)
        rose.get_by_role("button", name="blue").click()
        expect(rose.locator(".thanks")).to_contain_text("Noted as blue")
        page.clock.run_for(9000)
        counted_feedback(service, page, sample, before + 1)


def test_with_unknown_off_the_page_never_shows_it(browser: Browser, tmp_path: Path) -> None:
    model = write_telling(tmp_path / "model.pt")
    with running(LOG_LEVEL="error", MODEL_URL=model.as_uri(), UNKNOWN="off") as service:
        service.wait()
        with opened(browser, service.port) as page:
            choose(page, colour("grass.jpg", GREEN))
            grass = card(page, "grass.jpg")
            expect(grass.locator(".label")).to_have_text(re.compile("^(red|blue)$"))
            expect(grass.locator(".top")).to_have_count(1)
            grass.get_by_role("button", name="The prediction is wrong").click()
            expect(grass.locator(".thanks")).to_have_text(re.compile("Noted as (red|blue)"))
            expect(page.locator("#card")).to_be_hidden()


def test_the_message_for_many_classes(browser: Browser, tmp_path: Path) -> None:
    classes = ["red", "blue", "pink", "<b>grey</b>"]
    model = write_telling(tmp_path / "model.pt", classes=classes)
    with running(LOG_LEVEL="error", MODEL_URL=model.as_uri()) as service:
        service.wait()
        with opened(browser, service.port, viewport={"width": 320, "height": 640}) as page:
            choose(page, colour("grass.jpg", GREEN), colour("rose.jpg", RED))
            message = card(page, "grass.jpg").locator(".message")
            expect(message).to_have_text("This seems to show none of the 4 classes of the model.")
            rose = card(page, "rose.jpg")
            rose.get_by_role("button", name="The prediction is wrong").click()
            rose.get_by_label("It is").select_option("none of them")
            rose.get_by_role("button", name="Send").click()
            expect(rose.locator(".thanks")).to_contain_text("Noted as none of them")
            send_feedback(page)
            counted_feedback(service, page, 'feedback_total{actual="unknown",predicted="red"}', 1)
            assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_a_class_named_unknown_is_an_ordinary_class(browser: Browser, tmp_path: Path) -> None:
    model = write_telling(tmp_path / "model.pt", classes=["red", "unknown"])
    with running(LOG_LEVEL="error", MODEL_URL=model.as_uri()) as service:
        service.wait()
        with opened(browser, service.port) as page:
            choose(page, colour("sea.jpg", BLUE))
            expect(card(page, "sea.jpg").locator(".label")).to_have_text("unknown")
            expect(card(page, "sea.jpg").locator(".top")).to_have_count(1)
            expect(card(page, "sea.jpg").locator(".message")).to_be_hidden()


EAST, WEST, NORTH = [[0, 0, 1]] * 3, [[1, 0, 0]] * 3, [[1] * 3, [0] * 3, [0] * 3]
WHOLE, CENTRE = [0, 0, 1, 1], [0.25, 0, 0.75, 1]
PLACES = [
    (EAST, WHOLE, "on the right"), (WEST, WHOLE, "on the left"), (NORTH, WHOLE, "in the upper part"),
    (NORTH[::-1], WHOLE, "in the lower part"), ([[1, 0], [0, 0]], WHOLE, "in the upper left"),
    ([[0] * 3, [0] * 3, [0, 0, 1]], WHOLE, "in the lower right"),
    ([[1, 1], [1, 1]], WHOLE, "all over the photo"), ([[1, 1], [1, 1]], CENTRE, "in the middle"),
    ([[0] * 3, [0, 1, 0], [0] * 3], WHOLE, "in the middle"), ([[1, 0, 1]] * 3, WHOLE, "on both sides"),
    ([[1], [0], [1]], WHOLE, "at the top and the bottom"), ([[0, 0], [0, 0]], WHOLE, "nowhere in particular"),
    ([[1] * 3] * 3, [0.4, 0, 0.6, 1], "in the middle"),
    ([[1, 0, 0, 0]] * 3, [0.4, 0, 0.9, 1], "in the middle"), (EAST, [0, 0, 0.5, 1], "in the middle"),
]  # fmt: skip


def test_the_words_for_the_position_of_the_evidence(page: Page) -> None:
    script = "(given) => import('/static/evidence.js').then(({place}) => place(...given))"
    for grid, box, expected in PLACES:
        assert page.evaluate(script, [grid, box]) == expected, (grid, box)


def spot(width: int, height: int, x: float, y: float) -> np.ndarray:
    """A grey picture with a red spot; its centre as fractions of the width and height."""
    pixels = np.full((height, width, 3), 90, np.uint8)
    side = min(width, height) // 4
    left, top = round(x * width - side / 2), round(y * height - side / 2)
    pixels[top : top + side, left : left + side] = (255, 0, 0)
    return pixels


def colourful(frame: Locator) -> tuple[float, float]:
    """Return the centre of the red part of a frame, as fractions of its width and height."""
    image = np.asarray(Image.open(io.BytesIO(frame.screenshot())).convert("RGB"), np.float64)
    weight = np.maximum(image[..., 0] - image[..., 1:].max(2) - 60, 0) ** 2
    rows, columns = np.indices(weight.shape)
    assert weight.sum() > 0
    return (
        float((weight * columns).sum() / weight.sum() / weight.shape[1]),
        float((weight * rows).sum() / weight.sum() / weight.shape[0]),
    )


EXIF = Image.Exif()
EXIF[0x0112] = 6  # a quarter turn to the right


@pytest.mark.parametrize("viewport", [{"width": 900, "height": 700}, {"width": 360, "height": 700}])
def test_the_overlay_is_over_its_part_of_the_photo(
    browser: Browser, service: Service, viewport: dict[str, int]
) -> None:
    pictures = {
        "square": spot(400, 400, 0.625, 0.375),
        "wide": spot(800, 400, 0.25 + 0.5 * 0.375, 0.625),
        "tall": spot(300, 600, 0.375, 0.25 + 0.5 * 0.375),
    }
    files = [file(name, pixels) for name, pixels in pictures.items()]
    # Turned, it is as tall as the one before.
    files.append(file("turned", np.rot90(pictures["tall"]).copy(), exif=EXIF))
    with opened(browser, service.port, viewport=viewport, reduced_motion="reduce") as page:
        choose(page, *files)
        for name in (*pictures, "turned"):
            frame = card(page, name).locator(".frame")
            expect(card(page, name).locator(".where")).not_to_be_empty()
            page.mouse.move(0, 0)
            there = colourful(frame)
            frame.hover()
            expect(card(page, name).locator(".heat")).to_be_visible()
            # The photo itself is grey now: what is red is the heat.
            assert "grayscale" in card(page, name).locator(".preview").evaluate(
                "e => getComputedStyle(e).filter"
            )
            assert colourful(frame) == pytest.approx(there, abs=0.03), name
            box = frame.bounding_box()
            assert box
            assert box["width"] / box["height"] == pytest.approx(4 / 3 if name == "wide" else 1, abs=0.01)
    assert there == pytest.approx((0.375, 0.375), abs=0.02)  # all of the square in the middle is shown


def test_the_position_in_words(page: Page) -> None:
    choose(page, file("spot.png", spot(400, 400, 0.125, 0.125)), colour("rose.jpg", RED))
    expect(card(page, "spot.png").locator(".where")).to_have_text(
        "The part most like red is in the upper left."
    )
    expect(card(page, "rose.jpg").locator(".where")).to_contain_text("The evidence for red is in the middle.")


def test_by_mouse(page: Page) -> None:
    choose(page, colour("rose.jpg", RED))
    rose = card(page, "rose.jpg")
    heat, why = rose.locator(".heat"), rose.get_by_role("button", name=WHY)
    expect(why).to_have_attribute("aria-pressed", "false")
    expect(heat).to_be_hidden()
    rose.locator(".frame").hover(position={"x": 10, "y": 10})
    expect(heat).to_be_visible()
    expect(why).to_have_attribute("aria-pressed", "false")
    page.mouse.move(0, 0)
    expect(heat).to_be_hidden()
    rose.locator(".frame").click(position={"x": 10, "y": 10})
    page.mouse.move(0, 0)
    expect(heat).to_be_visible()  # it stays
    expect(why).to_have_attribute("aria-pressed", "true")
    why.click()
    expect(heat).to_be_hidden()  # at once, with the mouse still there
    expect(why).to_have_attribute("aria-pressed", "false")


def test_by_keyboard(page: Page) -> None:
    choose(page, colour("rose.jpg", RED))
    rose = card(page, "rose.jpg")
    heat, why = rose.locator(".heat"), rose.get_by_role("button", name=WHY)
    expect(why).to_be_visible()
    page.locator("#clear").focus()
    page.keyboard.press("Tab")
    expect(why).to_be_focused()
    assert why.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    expect(heat).to_be_visible()
    page.keyboard.press("Escape")
    expect(heat).to_be_hidden()
    page.keyboard.press("Enter")
    expect(why).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#announce")).to_contain_text("The evidence for red is in the middle.")
    page.keyboard.press("Tab")
    expect(heat).to_be_visible()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    expect(why).to_have_attribute("aria-pressed", "false")
    expect(heat).to_be_hidden()


def test_by_finger(browser: Browser, service: Service) -> None:
    with opened(
        browser, service.port, has_touch=True, is_mobile=True, viewport={"width": 360, "height": 640}
    ) as page:
        choose(page, colour("rose.jpg", RED))
        rose = card(page, "rose.jpg")
        heat, why = rose.locator(".heat"), rose.get_by_role("button", name=WHY)
        box = why.bounding_box()
        assert box
        assert min(box["width"], box["height"]) >= 44
        # A finger on its way to somewhere else makes nothing flash up.
        rose.locator(".frame").dispatch_event("pointerenter", {"pointerType": "touch"})
        assert "explained" not in (rose.locator(".frame").get_attribute("class") or "")
        for target in (rose.locator(".preview"), why):
            target.tap(position={"x": 20, "y": 20})
            expect(heat).to_be_visible()
            expect(why).to_have_attribute("aria-pressed", "true")
            target.tap(position={"x": 20, "y": 20})
            expect(heat).to_be_hidden()
            expect(why).to_have_attribute("aria-pressed", "false")


def asked(page: Page) -> list[str]:
    urls: list[str] = []

    def note(request: Request) -> None:
        if "/predict" in request.url:
            urls.append(request.url.rpartition("/")[2])

    page.on("request", note)
    return urls


def test_prediction_and_explanation_come_in_one_response(page: Page, service: Service) -> None:
    urls, before = asked(page), metric(service, 'predictions_total{label="red"}')
    choose(page, colour("rose.jpg", RED))
    card(page, "rose.jpg").locator(".frame").hover()
    expect(card(page, "rose.jpg").locator(".heat")).to_be_visible()
    assert urls == ["predict?explain=1"]
    assert metric(service, 'predictions_total{label="red"}') == before + 1


def test_no_explanation_is_requested_from_a_model_without_evidence(
    browser: Browser, make_model: Callable[..., Path]
) -> None:
    with running(LOG_LEVEL="error", MODEL_URL=make_model().as_uri()) as service:
        service.wait()
        with opened(browser, service.port) as page:
            urls = asked(page)
            choose(page, colour("rose.jpg", RED))
            rose = card(page, "rose.jpg")
            expect(rose.locator(".label")).to_have_text("red")
            rose.locator(".frame").click()
            for part in (".why", ".heat", ".where"):
                expect(rose.locator(part)).to_be_hidden()
            rose.locator(".frame").hover()  # the photo isn't greyed for a heat that there is none of
            assert "explained" not in (rose.locator(".frame").get_attribute("class") or "")
            assert urls == ["predict"]
            expect(page.locator("#card")).to_be_hidden()


def test_a_new_model_without_evidence_still_predicts(page: Page) -> None:
    urls = asked(page)
    problem = '{"title": "Bad Request", "status": 400, "detail": "", "request_id": "1"}'
    page.route("**/predict?explain=1", lambda route: route.fulfill(status=400, body=problem))
    choose(page, colour("rose.jpg", RED))
    expect(card(page, "rose.jpg").locator(".label")).to_have_text("red")
    expect(card(page, "rose.jpg").locator(".why")).to_be_hidden()
    assert urls == ["predict?explain=1", "predict"]


def test_a_photo_without_preview_has_the_position_in_words(page: Page) -> None:
    page.evaluate("URL.createObjectURL = ((url) => () => url)(URL.createObjectURL(new Blob(['no image'])))")
    choose(page, colour("rose.jpg", RED))
    rose = card(page, "rose.jpg")
    expect(rose.locator(".where")).to_contain_text("The evidence for red")
    for part in (".why", ".heat", ".preview"):
        expect(rose.locator(part)).to_be_hidden()


def test_a_removed_photo_frees_its_heat_map(page: Page) -> None:
    choose(page, colour("rose.jpg", RED))
    expect(card(page, "rose.jpg").locator(".where")).not_to_be_empty()
    source = card(page, "rose.jpg").locator(".heat").get_attribute("src") or ""
    assert source.startswith("blob:")
    assert loads(page, source)
    page.get_by_role("button", name="Remove rose.jpg").click()
    assert not loads(page, source)


def test_the_model_card_is_linked(page: Page) -> None:
    page.get_by_role("link", name="Model card").click()
    expect(page).to_have_url(re.compile("/model/card$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("A card")
    expect(page.get_by_role("main")).to_contain_text("<b>bold</b>, ünïcode")
    expect(page.locator("b")).to_have_count(0)
    page.get_by_role("link", name="Classify photos").click()
    expect(page).to_have_title("Red or blue?")
