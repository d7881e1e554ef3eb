"""The page in a real Chromium, with the real service."""

import base64
import io
import itertools
import json
import re
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, FileChooser, Locator, Page, Route, expect

from tests.conftest import BLUE, RED, colour_graph, coloured, encode
from tests.helpers.beside import camera_photos
from tests.helpers.chromium import opened, press_enter, wait_until
from tests.helpers.model_server import Answer, ModelServer
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, blocked, running

CAT = ROOT / "tests" / "photos" / "cat.jpg"
TEXTS = ROOT / "app" / "texts"
BROKEN = {"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": CAT.read_bytes()[:20_000]}
TEXT = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"no photo at all"}


def colour(name: str, rgb: tuple[int, int, int]) -> dict:
    return {"name": name, "mimeType": "image/jpeg", "buffer": encode(coloured(rgb))}


def as_file(photo: Path | dict) -> dict:
    if isinstance(photo, dict):
        return photo
    return {"name": photo.name, "mimeType": "image/jpeg", "buffer": photo.read_bytes()}


def choose(page: Page, *photos: Path | dict) -> None:
    page.locator("#files").set_input_files([as_file(photo) for photo in photos])  # type: ignore[misc]


def card(page: Page, name: str) -> Locator:
    return page.locator(".photo").filter(has=page.locator(".name", has_text=re.compile(f"^{name}$")))


def shares(answered: Locator) -> dict[str, float]:
    """Return the percentage of each class; checks the width of each bar."""
    result = {}
    expect(answered.locator(".label")).to_be_visible()
    for row in answered.locator("dl > div").all():
        text = row.locator("dd").text_content() or ""
        share = {">99.9%": 99.95, "<0.1%": 0.05}.get(text) or float(text.rstrip("%"))
        width = row.locator(".track span").evaluate("e => parseFloat(e.style.inlineSize)")
        assert width == pytest.approx(share, abs=0.11)
        result[row.locator("dt").text_content() or ""] = share
    return result


def loads(page: Page, url: str | None) -> bool:
    """Whether the page can still show the picture at a URL."""
    load = "url => Object.assign(new Image(), {src: url}).decode().then(() => true, () => false)"
    return bool(page.evaluate(load, url))


def send_feedback(page: Page) -> None:
    """Let the page send feedback as it does when it is left; it would wait for changes otherwise."""
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    expect(page.locator('.feedback[data-sent="true"]').first).to_be_visible()


def counted_feedback(service: Service, page: Page, sample: str, count: float) -> None:
    wait_until(page, lambda: metric(service, sample) == count)


def metric(service: Service, sample: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics") as response:
        found = re.search(rf"^{re.escape(sample)} (\S+)$", response.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_a_chosen_photo_is_predicted(page: Page) -> None:
    choose(page, CAT)
    answered = card(page, "cat.jpg")
    expect(answered.locator(".label")).to_have_text("cat")
    bars = shares(answered)
    assert sum(bars.values()) == pytest.approx(100, abs=0.2)
    assert bars["cat"] > 90
    expect(answered.locator(".time")).to_have_text(re.compile(r"^Answered in \d+(\.\d)? m?s$"))
    assert answered.locator(".preview").evaluate("e => e.naturalWidth") > 0
    expect(page.locator("#announce")).to_have_text(re.compile(r"^cat\.jpg: cat, "))
    expect(page).to_have_title("Cat or dog?")
    expect(page.locator("#model")).to_contain_text("efficientnet_lite0")


@pytest.mark.parametrize("file", sorted(TEXTS.glob("*.json")), ids=lambda file: file.stem)
def test_a_text_with_a_count_has_each_plural_category_of_its_language(page: Page, file: Path) -> None:
    categories = page.evaluate(
        "tag => new Intl.PluralRules(tag).resolvedOptions().pluralCategories", file.stem
    )
    texts = json.loads(file.read_text("utf-8"))
    counted = {key: set(text) for key, text in texts.items() if isinstance(text, dict)}
    assert counted
    assert counted == {key: set(categories) for key in counted}


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_photos_can_be_dropped_and_pasted(page: Page, how: str) -> None:
    page.evaluate(
        """([how, bytes]) => {
            const data = new DataTransfer();
            const array = Uint8Array.from(atob(bytes), c => c.charCodeAt(0));
            data.items.add(new File([array], "given.jpg", {type: "image/jpeg"}));
            const options = {bubbles: true, cancelable: true};
            const fire = (event) => document.querySelector("h1").dispatchEvent(event);
            const drag = (type) => fire(new DragEvent(type, {dataTransfer: data, ...options}));
            const shown = () => document.body.classList.contains("dragging");
            if (how === "paste") {
                fire(new ClipboardEvent("paste", {clipboardData: data, ...options}));
            } else {
                drag("dragenter");
                if (!shown()) throw new Error("nothing shows the drag");
                if (drag("dragover")) throw new Error("the browser would open the photo");
                drag("drop");
                if (shown()) throw new Error("still shows a drag");
            }
        }""",
        [how, base64.b64encode(CAT.read_bytes()).decode()],
    )
    expect(card(page, "given.jpg").locator(".label")).to_have_text("cat")


def test_a_bad_photo_does_not_affect_others(page: Page) -> None:
    empty = {"name": "empty.png", "mimeType": "image/png", "buffer": b""}
    choose(page, CAT, BROKEN, TEXT, empty)
    expect(card(page, "cat.jpg").locator(".label")).to_have_text("cat")
    for name, message in (
        ("broken.jpg", "can't be used: a truncated or corrupt JPEG image."),
        ("notes.txt", "not a JPEG"),
        ("empty.png", "empty"),
    ):
        refused = card(page, name)
        expect(refused.locator(".message")).to_contain_text(message)
        expect(refused.locator(".retry")).to_be_hidden()  # the same bytes would get the same answer
        expect(refused.locator(".feedback")).to_be_hidden()
    expect(card(page, "notes.txt").locator(".preview")).to_be_hidden()
    card(page, "notes.txt").get_by_role("button", name="Remove notes.txt").click()
    expect(page.locator(".photo")).to_have_count(3)
    expect(page.locator("#count")).to_have_text("3 of 3")
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".photo")).to_have_count(0)
    expect(page.locator("#bar")).to_be_hidden()


def test_at_most_two_requests_in_parallel(page: Page) -> None:
    held: list[Route] = []
    most: list[int] = []

    def hold(route: Route) -> None:
        held.append(route)
        most.append(len(held))

    page.route("**/predict*", hold)
    choose(page, *(colour(f"{number}.jpg", RED) for number in range(5)))
    expect(page.locator('[data-state="asking"]')).to_have_count(2)
    expect(page.locator('[data-state="waiting"]')).to_have_count(3)
    expect(page.locator("#count")).to_have_text("0 of 5")
    for _ in range(5):
        wait_until(page, lambda: held)
        page.wait_for_timeout(100)  # time for one request too many
        held.pop(0).continue_()
    expect(page.locator('[data-state="answered"]')).to_have_count(5)
    assert max(most) == 2


@pytest.mark.parametrize(
    ("thumb", "counted", "thanks"),
    [
        ("The prediction is right", 'feedback_total{actual="cat",predicted="cat"}', "Thank you."),
        ("The prediction is wrong", 'feedback_total{actual="dog",predicted="cat"}', "Noted as dog"),
    ],
)
def test_feedback(page: Page, service: Service, thumb: str, counted: str, thanks: str) -> None:
    before = metric(service, counted)
    choose(page, CAT)
    answered = card(page, "cat.jpg")
    answered.get_by_role("button", name=thumb).click()
    if "dog" in thanks and "unknown" in service.get("/model")[1]["labels"]:  # then it may be neither, too
        answered.get_by_role("button", name="dog", exact=True).click()
    expect(answered.locator(".thanks")).to_contain_text(thanks)
    send_feedback(page)
    expect(answered.locator(".thanks")).to_contain_text(thanks)
    counted_feedback(service, page, counted, before + 1)
    for button in answered.locator(".thumb").all():
        expect(button).to_be_disabled()  # one answer, one judgement


def test_with_the_keyboard_only(page: Page, service: Service) -> None:
    choosers: list[FileChooser] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    choose(page, CAT)
    expect(card(page, "cat.jpg").locator(".label")).to_have_text("cat")
    page.locator("body").focus()
    reached = []
    for _ in range(15):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        reached.append(focused.get_attribute("aria-label") or focused.inner_text())
        assert focused.evaluate("e => getComputedStyle(e).outlineStyle") == "solid", reached
        if reached[-1] == "Remove cat.jpg":
            break
    why = ["Show evidence: cat.jpg"] if service.get("/model")[1]["explains"] else []
    assert reached == [
        "Skip to the results", "Choose photos", "Add a photo by its address", "Clear all", *why,
        "The prediction is right: cat.jpg", "The prediction is wrong: cat.jpg", "Remove cat.jpg",
    ]  # fmt: skip
    page.keyboard.press("Enter")
    expect(page.locator(".photo")).to_have_count(0)
    expect(page.get_by_role("button", name="Choose photos")).to_be_focused()
    page.keyboard.press("Enter")
    wait_until(page, lambda: choosers)


def test_the_camera_app_is_offered_on_phones_only(browser: Browser, service: Service) -> None:
    with opened(browser, service.port, has_touch=True, is_mobile=True) as phone:
        with phone.expect_file_chooser() as chooser:
            phone.get_by_role("button", name="Take a photo").click()
        assert chooser.value.element.get_attribute("capture") == "environment"
        assert not chooser.value.is_multiple()
        chooser.value.set_files([as_file(CAT)])
        expect(card(phone, "cat.jpg").locator(".label")).to_have_text("cat")
    with opened(browser, service.port) as desktop:
        expect(desktop.get_by_role("button", name="Take a photo")).to_be_hidden()


@pytest.mark.parametrize("width", [320, 390, 768])
def test_no_horizontal_scrolling(browser: Browser, service: Service, width: int) -> None:
    size = {"width": width, "height": 640}
    with opened(browser, service.port, viewport=size) as page:
        long_name = {"name": "x" * 200 + ".jpg", "mimeType": "image/jpeg", "buffer": CAT.read_bytes()}
        choose(page, long_name, BROKEN)
        expect(page.locator('[data-state="answered"]')).to_have_count(1)
        expect(page.locator('[data-state="rejected"]')).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_and_light(browser: Browser, service: Service) -> None:
    seen = {}
    for scheme in ("light", "dark"):
        with opened(browser, service.port, color_scheme=scheme) as page:
            picture = Image.open(io.BytesIO(page.screenshot()))
            seen[scheme] = picture.convert("L").resize((1, 1)).getpixel((0, 0))
    assert seen["light"] > 200
    assert seen["dark"] < 60


def test_reduced_motion_is_respected(browser: Browser, service: Service) -> None:
    moving = "document.getAnimations({subtree: true}).length"
    for preference, expected in (("no-preference", True), ("reduce", False)):
        with opened(browser, service.port, reduced_motion=preference) as page:
            page.route("**/predict*", lambda route: None)
            choose(page, CAT)
            expect(page.locator('[data-state="asking"]')).to_have_count(1)
            assert bool(page.evaluate(moving)) is expected


def test_without_javascript_it_shows_the_command(browser: Browser, service: Service) -> None:
    with opened(browser, service.port, java_script_enabled=False) as page:
        expect(page.locator("noscript p")).to_be_visible()
        expect(page.locator("noscript code")).to_contain_text(
            f'curl -F "file=@photo.jpg;filename=photo.jpg" http://127.0.0.1:{service.port}/predict'
        )
        expect(page.get_by_role("button")).to_have_count(0)


def test_a_file_over_the_limit_is_not_sent(browser: Browser) -> None:
    with running(LOG_LEVEL="error", MAX_UPLOAD_MB="1") as service:
        service.wait()
        with opened(browser, service.port) as page:
            sent: list[str] = []
            page.on("request", lambda request: sent.append(request.url))
            choose(page, {"name": "big.jpg", "mimeType": "image/jpeg", "buffer": bytes(2**21)})
            expect(card(page, "big.jpg").locator(".message")).to_contain_text("2 MB, over the limit of 1 MB")
            assert not [url for url in sent if "/predict" in url]


def test_an_api_key_is_asked_for_and_used(browser: Browser) -> None:
    with running(LOG_LEVEL="error", API_KEYS="open-sesame") as service:
        service.wait()
        with opened(browser, service.port) as page:
            choose(page, CAT)
            expect(card(page, "cat.jpg").locator(".message")).to_contain_text("API key")
            page.get_by_label("This service needs an API key.").fill("wrong")
            page.keyboard.press("Enter")
            expect(page.locator("#key-hint")).to_have_text("This key is not valid.")
            page.get_by_label("This service needs an API key.").fill("open-sesame")
            page.get_by_role("button", name="Use key").click()
            expect(card(page, "cat.jpg").locator(".label")).to_have_text("cat")
            page.get_by_role("button", name="The prediction is right").click()
            send_feedback(page)
            expect(page.locator(".thanks")).to_have_text("Thank you.")
            page.reload()
            choose(page, {"name": "new.jpg", "mimeType": "image/jpeg", "buffer": CAT.read_bytes()})
            expect(card(page, "new.jpg").locator(".label")).to_have_text("cat")
            elsewhere = page.context.new_page()  # another tab knows nothing of it
            elsewhere.goto(page.url)
            assert elsewhere.evaluate("sessionStorage.length + localStorage.length") == 0


def test_an_api_key_can_have_any_letters(browser: Browser) -> None:
    with running(LOG_LEVEL="error", API_KEYS="ключ-é") as service:
        service.wait()
        with opened(browser, service.port) as page:
            choose(page, CAT)
            for key in ("замок", "ключ-é"):
                page.get_by_label("This service needs an API key.").fill(key)
                page.keyboard.press("Enter")
            expect(card(page, "cat.jpg").locator(".label")).to_have_text("cat")


@pytest.mark.parametrize(
    "refuse",
    [
        "Object.defineProperty(window, 'sessionStorage', {get() { throw new DOMException('no') }})",
        "Storage.prototype.setItem = () => { throw new DOMException('full') }",
    ],
)
def test_without_storage_the_key_is_kept_in_memory(browser: Browser, refuse: str) -> None:
    with running(LOG_LEVEL="error", API_KEYS="open-sesame") as service:
        service.wait()
        with opened(browser, service.port) as page:
            page.add_init_script(refuse)
            page.reload()
            choose(page, CAT)
            page.get_by_label("This service needs an API key.").fill("open-sesame")
            page.keyboard.press("Enter")
            expect(card(page, "cat.jpg").locator(".label")).to_have_text("cat")


@pytest.mark.parametrize(
    ("status", "message", "passing"),
    [
        (400, "can't read this file", False), (413, "too large for the service", False),
        (415, "not a JPEG", False),
        (422, "damaged", False), (500, "Something went wrong", True), (502, "can't be reached", True),
    ],
)  # fmt: skip
def test_an_error_in_another_format_has_a_clear_message(
    page: Page, status: int, message: str, passing: bool
) -> None:
    html = "<html><h1>nginx</h1></html>"
    page.route("**/predict*", lambda route: route.fulfill(status=status, body=html, content_type="text/html"))
    choose(page, CAT)
    expect(card(page, "cat.jpg").locator(".message")).to_contain_text(message)
    expect(card(page, "cat.jpg").locator(".retry")).to_be_visible(visible=passing)


def test_a_proxy_without_retry_after_is_not_hammered(page: Page) -> None:
    asked: list[float] = []

    def refuse(route: Route) -> None:
        asked.append(time.monotonic())
        route.fulfill(status=503, body="<html>", content_type="text/html")

    page.route("**/predict*", refuse)
    choose(page, CAT)
    expect(card(page, "cat.jpg").locator(".message")).to_contain_text("busy. Trying again in 1 s")
    wait_until(page, lambda: len(asked) > 1)
    assert asked[1] - asked[0] >= 1


def test_after_an_incomplete_response_the_user_can_try_again(page: Page) -> None:
    page.route(
        "**/predict*",
        lambda route: route.fulfill(body='{"label": "c', content_type="application/json"),
        times=1,
    )
    choose(page, CAT)
    expect(card(page, "cat.jpg").locator(".message")).to_contain_text("connection was lost")
    card(page, "cat.jpg").get_by_role("button", name="Try again").click()
    expect(card(page, "cat.jpg").locator(".label")).to_have_text("cat")


def test_feedback_that_fails_can_be_sent_again(page: Page) -> None:
    page.route("**/feedback", lambda route: route.abort(), times=1)
    choose(page, CAT)
    said = card(page, "cat.jpg").locator(".thanks")
    page.get_by_role("button", name="The prediction is right").click()
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    expect(said).to_have_text(re.compile("^Not sent. "))
    lost = said.evaluate("e => getComputedStyle(e).color")
    page.get_by_role("button", name="The prediction is right").click()
    send_feedback(page)
    expect(said).to_have_text("Thank you.")
    assert said.evaluate("e => getComputedStyle(e).color") != lost


def test_feedback_on_an_answer_that_the_service_no_longer_knows_does_not_blame_the_photo(page: Page) -> None:
    def forget(route: Route) -> None:
        route.continue_(post_data=route.request.post_data_json | {"request_id": f"a.{'A' * 36}"})

    page.route("**/feedback", forget)
    choose(page, CAT)
    page.get_by_role("button", name="The prediction is right").click()
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    said = card(page, "cat.jpg").locator(".thanks")
    expect(said).to_have_text("Not sent. The service no longer knows this answer.")


def test_only_the_photo_is_sent_not_its_name(page: Page) -> None:
    with page.expect_request("**/predict*") as sent:
        choose(page, CAT)
    request = sent.value
    assert request.headers["content-type"] == "image/jpeg"
    assert request.post_data_buffer == CAT.read_bytes()
    assert "cat.jpg" not in json.dumps(request.all_headers())


def test_a_removed_photo_frees_its_preview_and_its_place(page: Page) -> None:
    held: list[Route] = []
    page.route("**/predict*", lambda route: held.append(route))
    choose(page, *(colour(f"{number}.jpg", RED) for number in range(3)))
    expect(page.locator('[data-state="asking"]')).to_have_count(2)
    preview = card(page, "0.jpg").locator(".preview").get_attribute("src")
    card(page, "0.jpg").get_by_role("button", name="Remove 0.jpg").click()
    expect(card(page, "2.jpg")).to_have_attribute("data-state", "asking")
    assert loads(page, card(page, "1.jpg").locator(".preview").get_attribute("src"))
    assert not loads(page, preview)


def test_a_double_tap_removes_one_photo(page: Page) -> None:
    choose(page, *(colour(f"{number}.jpg", RED) for number in range(3)))
    expect(page.locator('[data-state="answered"]')).to_have_count(3)
    button = card(page, "0.jpg").get_by_role("button", name="Remove 0.jpg")
    button.scroll_into_view_if_needed()
    place = button.bounding_box()
    assert place
    page.mouse.dblclick(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    expect(page.locator(".photo")).to_have_count(2)
    for name in ("1.jpg", "2.jpg"):  # keys are not tapped twice by mistake
        press_enter(card(page, name).get_by_role("button", name=f"Remove {name}"))
    expect(page.locator(".photo")).to_have_count(0)


def test_an_overloaded_service_is_waited_for(browser: Browser, tmp_path: Path) -> None:
    def with_patience(route: Route) -> None:
        response, few = route.fetch(), "ATTEMPTS = 5;"
        assert few in response.text()
        route.fulfill(response=response, body=response.text().replace(few, "ATTEMPTS = 500;"))

    gate = tmp_path / "gate"
    with (
        blocked(gate, LOG_LEVEL="error", MAX_QUEUE="0") as service,
        opened(browser, service.port) as page,
    ):
        page.route("**/static/api.js*", with_patience)  # on a slow machine, five attempts may end too soon
        page.reload()
        expect(page).to_have_title("Cat or dog?")
        choose(page, CAT, *(colour(f"{number}.jpg", RED) for number in range(3)))
        expect(page.locator(".message", has_text="busy. Trying again in 1 s").first).to_be_visible()
        asked: list[str] = []
        page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
        page.mouse.click(1, 1)  # browsers ask only if somebody has used the page
        page.evaluate("setTimeout(() => location.reload())")
        wait_until(page, lambda: asked)  # before photos without an answer are lost
        gate.touch()
        expect(page.locator('[data-state="answered"]')).to_have_count(4)
        page.reload()
        expect(page.locator('[data-state="answered"]')).to_have_count(4)
        assert asked == ["beforeunload"]
        assert metric(service, 'predictions_rejected_total{reason="queue_full"}') >= 1


def test_a_busy_service_is_tried_again_when_it_says(page: Page) -> None:
    busy = [True]
    asked: list[float] = []

    def answer(route: Route) -> None:
        asked.append(time.monotonic())
        if busy or len(asked) < 2:
            problem = '{"title": "Service Unavailable", "status": 503, "detail": "", "request_id": "1"}'
            headers = {"Retry-After": "1", "Content-Type": "application/problem+json"}
            route.fulfill(status=503, body=problem, headers=headers)
        else:
            route.continue_()

    page.route("**/predict*", answer)
    choose(page, CAT)
    expect(card(page, "cat.jpg").locator(".message")).to_contain_text("busy. Trying again in 1 s")
    busy.clear()
    expect(card(page, "cat.jpg").locator(".label")).to_have_text("cat")
    assert len(asked) > 1
    assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(asked))


def test_after_a_lost_connection_the_user_can_try_again(page: Page) -> None:
    expect(page).to_have_title("Cat or dog?")
    page.context.set_offline(True)
    choose(page, CAT)
    expect(card(page, "cat.jpg").locator(".message")).to_contain_text("can't be reached")
    page.context.set_offline(False)
    card(page, "cat.jpg").get_by_role("button", name="Try again").click()
    expect(card(page, "cat.jpg").locator(".label")).to_have_text("cat")


def test_a_service_that_is_still_loading_its_model(
    browser: Browser, server: ModelServer, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    server.files["/model.pt"] = make_model().read_bytes()
    server.answers["/model.pt"] = [Answer(stall=500)]
    url = f"{server.url}/model.pt"
    with running(LOG_LEVEL="error", MODEL_URL=url, MODEL_CACHE_DIR=str(tmp_path / "cache")) as service:
        service.wait("/health")
        with opened(browser, service.port) as page:
            expect(page.locator("#status")).to_contain_text("Not ready yet: downloading")
            choose(page, colour("sky.jpg", BLUE))
            expect(card(page, "sky.jpg").locator(".message")).to_have_text("Waiting…")
            page.wait_for_timeout(300)
            server.gate.set()
            expect(page.locator("#status")).to_be_hidden()
            expect(card(page, "sky.jpg").locator(".label")).to_have_text("blue")
            assert metric(service, 'predictions_rejected_total{reason="not_ready"}') == 0
            expect(page.locator("#model")).to_contain_text("simple_cnn")


def test_earlier_answers_survive_while_the_model_is_loading(page: Page) -> None:
    choose(page, CAT)
    expect(card(page, "cat.jpg").locator(".label")).to_have_text("cat")
    page.route("**/model", lambda route: route.fulfill(status=503, json={"detail": "loading"}))
    page.reload()
    choose(page, colour("sky.jpg", BLUE))
    card(page, "sky.jpg").get_by_role("button", name="Remove sky.jpg").click()
    page.unroute("**/model")
    page.reload()
    expect(card(page, "cat.jpg").locator(".label")).to_have_text("cat")


def test_any_other_classes(browser: Browser, make_model: Callable[..., Path]) -> None:
    two = make_model("two.pt")
    classes = ["red", "blue", "green", "<b>grey</b>"]
    many = make_model("many.pt", graph=colour_graph(outputs=4), classes=classes)
    with running(LOG_LEVEL="error", MODEL_URL=two.as_uri()) as service:
        service.wait()
        with opened(browser, service.port) as page:
            expect(page).to_have_title("Red or blue?")
            choose(page, colour("sky.jpg", BLUE))
            expect(card(page, "sky.jpg").locator(".label")).to_have_text("blue")
    with running(LOG_LEVEL="error", MODEL_URL=many.as_uri()) as service:
        service.wait()
        with opened(browser, service.port) as page:
            expect(page.locator("#model")).to_contain_text("Model")
            expect(page).to_have_title("What is in the photo?")
            choose(page, colour("sky.jpg", BLUE))
            answered = card(page, "sky.jpg")
            assert set(shares(answered)) == set(classes)  # markup is text
            answered.get_by_role("button", name="The prediction is wrong").click()
            expect(answered.get_by_label("It is")).to_be_focused()
            for _ in range(3):  # by keyboard: the options on the way are no judgement
                page.keyboard.press("ArrowDown")
            expect(answered.get_by_label("It is")).to_have_value("<b>grey</b>")
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            expect(answered.locator(".thanks")).to_contain_text("Noted as <b>grey</b>")
            send_feedback(page)
            counted_feedback(service, page, 'feedback_total{actual="<b>grey</b>",predicted="blue"}', 1)
            assert metric(service, 'feedback_total{actual="red",predicted="blue"}') == 0


def test_the_most_likely_of_many_classes_show_and_others_unfold(
    browser: Browser, make_model: Callable[..., Path]
) -> None:
    classes = ["red", "blue", *(f"class number {number}" for number in range(28))]
    many = make_model(graph=colour_graph(outputs=30), classes=classes)
    with running(LOG_LEVEL="error", MODEL_URL=many.as_uri()) as service:
        service.wait()
        with opened(browser, service.port, viewport={"width": 320, "height": 640}) as page:
            choose(page, colour("sky.jpg", BLUE))
            answered = card(page, "sky.jpg")
            assert set(shares(answered)) == set(classes)
            expect(answered.locator("dt:visible")).to_have_count(5)
            expect(answered.locator("dt").first).to_have_text("blue")
            answered.get_by_text("25 more").click()
            expect(answered.locator("dt:visible")).to_have_count(30)
            answered.get_by_role("button", name="The prediction is wrong").click()
            assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_real_photos_in_one_go(page: Page, tmp_path: Path) -> None:
    chosen = list(camera_photos().items())[::6]
    for number, (_, photo) in enumerate(chosen):
        (tmp_path / f"{number}.jpg").write_bytes(photo)
    choose(page, *(tmp_path / f"{number}.jpg" for number in range(len(chosen))))
    expect(page.locator('[data-state="answered"]')).to_have_count(len(chosen))
    right = [
        card(page, rf"{number}\.jpg").locator(".label").inner_text().lower() == Path(path).parent.name
        for number, (path, _) in enumerate(chosen)
    ]
    assert len(right) >= 8
    assert sum(right) >= len(right) - 1
