"""Whether everyone can use the pages: small screens, colour schemes, screen readers, languages."""

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.app.routes.test_page_browser import BROKEN, CAT, card, choose, colour, send_feedback
from tests.conftest import BLUE, RED, colour_graph
from tests.helpers.beside import camera_photos
from tests.helpers.chromium import opened, press_enter
from tests.helpers.graphs import GREEN, write_telling
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, running

DOG = ROOT / "tests" / "photos" / "dog.jpg"
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
SCREENS = {320: 568, 390: 664, 768: 1024, 1280: 720}


def barriers(page: Page) -> list[str]:
    """What axe-core finds on a page: its rules, with the elements that break them."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run({resultTypes: ['violations']}).then((result) => result.violations)")
    return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("width", SCREENS)
@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
@pytest.mark.parametrize("photo", [CAT, DOG], ids=["cat", "dog"])
def test_the_first_answer_is_on_the_screen(
    browser: Browser, service: Service, width: int, motion: str, photo: Path
) -> None:
    mobile = width < 700
    options = {
        "viewport": {"width": width, "height": SCREENS[width]},
        "has_touch": mobile,
        "is_mobile": mobile,
    }
    with opened(browser, service.port, reduced_motion=motion, **options) as page:
        choose(page, photo)
        expect(page.locator(".label")).to_have_text(photo.stem)
        expect(page.locator(".bars")).to_be_in_viewport(ratio=1)
        expect(page.locator(".label")).to_be_in_viewport(ratio=1)
        expect(page.locator(".frame")).to_be_in_viewport(ratio=1)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_later_answers_are_scrolled_to_unless_the_user_scrolls(browser: Browser, service: Service) -> None:
    options = {"viewport": {"width": 390, "height": 664}, "reduced_motion": "reduce"}
    with opened(browser, service.port, **options) as page:
        choose(page, CAT, DOG, CAT)
        expect(page.locator('[data-state="answered"]')).to_have_count(3)
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        choose(page, DOG)
        expect(page.locator('[data-state="answered"]')).to_have_count(4)
        expect(page.locator(".photo").first.locator(".bars")).to_be_in_viewport(ratio=1)
        held: list[Route] = []
        page.route("**/predict*", lambda route: held.append(route))
        choose(page, CAT)
        expect(page.locator('[data-state="asking"]')).to_have_count(1)
        page.mouse.wheel(0, 2000)
        page.wait_for_function("scrollY > 300")
        down = page.evaluate("scrollY")
        held[0].continue_()
        expect(page.locator('[data-state="answered"]')).to_have_count(5)
        assert page.evaluate("scrollY") >= down


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_axe_finds_no_barrier(browser: Browser, tmp_path: Path, scheme: str, width: int) -> None:
    model = write_telling(tmp_path / "model.pt", (ROOT / "docs" / "MODEL_CARD.md").read_text("utf-8"))
    # The script comes from the test, which the pages' policies forbid.
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 700}, "bypass_csp": True}
    with running(LOG_LEVEL="error", MODEL_URL=model.as_uri(), API_KEYS="key") as service:
        service.wait()
        for path in ("/model/card", "/docs"):
            with opened(browser, service.port, path, **options) as page:
                assert barriers(page) == [], path
                assert page.evaluate("document.documentElement.scrollWidth") <= width
        with opened(browser, service.port, reduced_motion="reduce", **options) as page:
            expect(page).to_have_title("Red or blue?")
            assert barriers(page) == []
            choose(page, colour("rose.jpg", RED))
            expect(page.locator("#key")).to_be_visible()
            assert barriers(page) == []
            page.get_by_label("This service needs an API key.").fill("key")
            page.keyboard.press("Enter")
            expect(page.locator('[data-state="answered"]')).to_have_count(1)
            choose(page, colour("grass.jpg", GREEN), BROKEN)
            expect(page.locator('[data-state="answered"]')).to_have_count(2)
            expect(page.locator('[data-state="rejected"]')).to_have_count(1)
            page.get_by_text("Use it from your own code").click()
            page.get_by_text("Add a photo by its address").click()
            rose = card(page, "rose.jpg")
            rose.get_by_role("button", name="The prediction is wrong").click()
            rose.get_by_role("button", name="Show evidence").click()
            assert barriers(page) == []


def test_axe_finds_no_barrier_with_examples_and_the_camera(browser: Browser, service: Service) -> None:
    with opened(browser, service.port, bypass_csp=True) as page:
        expect(page.locator(".example")).to_have_count(2)
        assert barriers(page) == []
        page.evaluate("document.getElementById('viewfinder').showModal()")
        assert barriers(page) == []


def test_each_answer_has_a_heading_a_name_and_one_announcement(browser: Browser, service: Service) -> None:
    spoken = """() => {
        window.spoken = [];
        const note = ({addedNodes}) => window.spoken.push(...[...addedNodes].map((node) => node.textContent));
        const observer = new MutationObserver((changes) => changes.forEach(note));
        observer.observe(document.getElementById("announce"), {childList: true});
    }"""
    with opened(browser, service.port) as page:
        page.evaluate(spoken)
        choose(page, CAT, DOG, BROKEN)
        expect(page.locator('[data-state="answered"]')).to_have_count(2)
        expect(page.locator('[data-state="rejected"]')).to_have_count(1)
        for name in ("cat", "dog"):
            expect(
                page.get_by_role("heading", level=3, name=f"{name}.jpg {name}", exact=True)
            ).to_be_visible()
            expect(page.get_by_role("listitem", name=f"{name}.jpg {name}", exact=True)).to_be_visible()
            for action in (
                "Remove",
                "Show evidence:",
                "The prediction is right:",
                "The prediction is wrong:",
            ):
                expect(page.get_by_role("button", name=f"{action} {name}.jpg", exact=True)).to_be_visible()
        said = page.evaluate("window.spoken")
        assert sorted(re.sub(r">?\d\d\.\d", "99.9", line) for line in said) == [
            "broken.jpg: This image can't be used: a truncated or corrupt JPEG image.",
            "cat.jpg: cat, 99.9%",
            "dog.jpg: dog, 99.9%",
        ]


def test_the_focus_stays_at_the_photo_when_its_control_goes(
    browser: Browser, service: Service, make_model: Callable[..., Path]
) -> None:
    with opened(browser, service.port) as page:
        expect(page.locator("#model")).not_to_be_empty()  # without it, no photo is sent
        page.context.set_offline(True)
        choose(page, CAT)
        again = card(page, "cat.jpg").get_by_role("button", name="Try again")
        expect(again).to_be_visible()
        page.context.set_offline(False)
        press_enter(again)
        expect(card(page, "cat.jpg").locator(".label")).to_have_text("cat")
        expect(card(page, "cat.jpg").locator(".remove")).to_be_focused()
        press_enter(card(page, "cat.jpg").locator(".up"))
        send_feedback(page)
        expect(card(page, "cat.jpg").locator(".up")).to_be_focused()
    model = make_model(graph=colour_graph(outputs=3), classes=["red", "green", "blue"])
    with running(LOG_LEVEL="error", MODEL_URL=model.as_uri()) as of_three:
        of_three.wait()
        with opened(browser, of_three.port) as page:
            choose(page, colour("a.jpg", RED))
            press_enter(card(page, "a.jpg").locator(".down"))
            press_enter(page.get_by_role("button", name="blue", exact=True))
            expect(page.get_by_role("button", name="blue", exact=True)).to_be_focused()  # it can be changed
            send_feedback(page)
            expect(card(page, "a.jpg").locator(".down")).to_be_focused()


def test_the_page_speaks_german(browser: Browser, service: Service) -> None:
    with opened(browser, service.port, locale="de-DE") as page:
        expect(page).to_have_title("Cat oder dog?")  # names of classes are the model's
        choose(page, CAT, BROKEN)
        answered = card(page, "cat.jpg")
        expect(answered.locator(".time")).to_have_text(re.compile(r"^Beantwortet in [\d,.]+ m?s$"))
        expect(answered.locator("dd").first).to_have_text(re.compile(r"^>?\d\d,\d\s%$"))
        expect(card(page, "broken.jpg").locator(".message")).to_contain_text("Dieses Bild lässt sich nicht")
        expect(page.locator("#model")).to_contain_text(re.compile(r"bei 99,6\s% von 1\.523 Testfotos"))
        answered.get_by_role("button", name="Das Ergebnis ist richtig: cat.jpg").click()
        expect(answered.locator(".thanks")).to_have_text("Danke. Du kannst das noch ändern.")


def test_a_percentage_says_of_how_many(browser: Browser, service: Service) -> None:
    with opened(browser, service.port) as page:
        expect(page.locator("#model")).to_contain_text("right on 99.6% of 1,523 test photos")


def test_links_lead_to_pages_for_visitors(browser: Browser, service: Service) -> None:
    with opened(browser, service.port) as page:
        expect(page.locator("#card")).to_be_visible()
        links = [link.get_attribute("href") for link in page.locator("footer a").all()]
        assert links == ["docs", "model/card"]
        for link in links:
            page.goto(f"http://127.0.0.1:{service.port}/{link}")
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            page.get_by_role("link", name="Classify photos").click()
            expect(page).to_have_title("Cat or dog?")


def test_a_thousand_classes(browser: Browser, make_model: Callable[..., Path]) -> None:
    classes = [f"class <{number}>" for number in range(1000)]
    model = make_model(graph=colour_graph(outputs=1000), classes=classes)
    with running(LOG_LEVEL="error", MODEL_URL=model.as_uri()) as service:
        service.wait()
        with opened(browser, service.port, viewport={"width": 390, "height": 664}, bypass_csp=True) as page:
            expect(page.locator("#model")).to_contain_text("Model")
            choose(page, *(colour(f"{number}.jpg", BLUE) for number in range(3)))
            expect(page.locator('[data-state="answered"]')).to_have_count(3)
            expect(page.locator(".label").first).to_have_text("class <1>")
            expect(page.get_by_text("995 more").first).to_be_visible()
            expect(page.locator("#examples")).to_be_hidden()
            page.get_by_role("button", name="The prediction is wrong").first.click()
            page.get_by_label("It is").first.select_option("class <999>")
            page.get_by_role("button", name="Send").first.click()
            expect(page.locator(".thanks").first).to_contain_text("Noted as class <999>.")
            assert barriers(page) == []
            page.reload()
            expect(page.locator('[data-state="answered"]')).to_have_count(3)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_real_photos_and_their_answers_fit_on_a_phone(browser: Browser, service: Service) -> None:
    for photo in list(camera_photos().values())[::8]:
        with opened(browser, service.port, viewport={"width": 390, "height": 664}) as page:
            choose(page, {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photo})
            expect(page.locator(".label")).to_be_visible()
            expect(page.locator(".bars")).to_be_in_viewport(ratio=1)
            expect(page.locator(".frame")).to_be_in_viewport(ratio=1)
