"""Where the page takes photos from: examples, the camera, addresses and links; in a real Chromium."""

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from scripts.common.chromium import launch
from tests.app.routes.test_page_browser import CAT, card, choose
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.chromium import opened, wait_until
from tests.helpers.http_server import Handler, Server
from tests.helpers.service import Service, running
from tests.helpers.tls import certificate, context


@pytest.fixture(scope="module")
def camera_browser(browser: Browser) -> Iterator[Browser]:
    """A browser with a camera, whose use it allows."""
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with launch(browser.browser_type, fake) as other:
        yield other


class Elsewhere(Handler):
    """Another site; the browser may read only what is below /open."""

    def do_GET(self) -> None:
        page = self.path.endswith("page.html")
        body = b"<h1>a page</h1>" if page else CAT.read_bytes()
        headers = {"Content-Type": "text/html" if page else "image/jpeg"}
        if self.path.startswith("/open"):
            headers["Access-Control-Allow-Origin"] = "*"
        self.answer(404 if "missing" in self.path else 200, body, headers)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Server(Elsewhere, context(certificate(tmp_path_factory.mktemp("tls")))) as server:
        yield server.url


@pytest.fixture
def reaching(browser: Browser, service: Service, elsewhere: str) -> Iterator[Page]:
    """The page in a browser that trusts the other site and may go there."""
    with opened(browser, service.port, allowed=elsewhere, ignore_https_errors=True) as page:
        expect(page).to_have_title("Cat or dog?")
        yield page


@pytest.mark.parametrize("script", ["", "delete URL.canParse"], ids=["today", "Safari before 17"])
def test_an_example_is_one_click(page: Page, script: str) -> None:
    page.evaluate(script)
    for name in ("cat", "dog"):
        page.get_by_role("button", name=f"Example: {name.title()}").click()
        expect(card(page, f"{name}.jpg").locator(".label")).to_have_text(name)
        page.get_by_role("button", name="Clear all").click()
    images = page.locator(".example img").all()
    assert len(images) == 2
    for image in images:
        assert image.evaluate("e => e.naturalWidth") > 0


def test_examples_of_other_classes_come_from_the_model_file(
    browser: Browser, make_model: Callable[..., Path]
) -> None:
    photos = {f"{label}.{n}": encode(coloured((RED, BLUE)[label])) for label in (0, 1) for n in range(9)}
    model = make_model(classes=["50 %/réd", "blue"], examples=photos)
    with running(LOG_LEVEL="error", MODEL_URL=model.as_uri()) as service:
        service.wait()
        with opened(browser, service.port) as page:
            page.get_by_role("button", name="Example: 50 %_réd").first.click()
            expect(card(page, "50 %_réd.jpg").locator(".label")).to_have_text("50 %/réd")
            page.get_by_role("button", name="Clear all").click()
            expect(page.locator(".example img")).to_have_count(6)


def enter(page: Page, address: str) -> None:
    field = page.get_by_label("Address of a photo")
    while not field.is_visible():  # a click that comes while the page moves may miss
        page.get_by_text("Add a photo by its address").click()
    field.fill(address)
    page.get_by_role("button", name="Add", exact=True).click()


def test_a_photo_by_its_address(reaching: Page, elsewhere: str) -> None:
    enter(reaching, f"{elsewhere}/open/a%20cat.jpg?size=large")
    expect(card(reaching, "a cat.jpg").locator(".label")).to_have_text("cat")
    expect(reaching.get_by_label("Address of a photo")).to_have_value("")


def test_cookies_go_to_the_page_s_own_site_only(reaching: Page, elsewhere: str) -> None:
    """A proxy in front of the service may ask for one, of the examples too."""
    reaching.context.add_cookies([{"name": "login", "value": "1", "url": "http://127.0.0.1"}])
    with reaching.expect_request("**/examples/*") as example:
        reaching.get_by_role("button", name="Example: Cat").click()
    assert example.value.all_headers()["cookie"] == "login=1"
    with reaching.expect_request("**/open/*") as other:
        enter(reaching, f"{elsewhere}/open/cat.jpg")
    assert "cookie" not in other.value.all_headers()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/closed/cat.jpg", "can't load this address"),
        ("/open/page.html", "no photo at this address"),
        ("/open/missing.jpg", "no photo at this address"),
    ],
)
def test_an_address_that_cannot_be_used(
    browser: Browser, service: Service, elsewhere: str, path: str, message: str
) -> None:
    with opened(browser, service.port, allowed=elsewhere, quiet="CORS", ignore_https_errors=True) as page:
        # Else, on a machine without a network, the page would say what to do about that.
        page.evaluate("Object.defineProperty(navigator, 'onLine', { value: true })")
        enter(page, elsewhere + path)
        expect(page.locator("#source-message")).to_contain_text(message)
        expect(page.locator(".photo")).to_have_count(0)


def test_clear_all_gives_up_photos_that_are_loading(reaching: Page, elsewhere: str) -> None:
    choose(reaching, CAT)
    expect(card(reaching, "cat.jpg").locator(".label")).to_have_text("cat")
    loading: list[Route] = []
    reaching.route("**/late.jpg", lambda route: loading.append(route))
    enter(reaching, f"{elsewhere}/open/late.jpg")
    wait_until(reaching, lambda: loading)
    expect(reaching.locator("#source-message")).to_have_text("Loading the photo…")
    reaching.get_by_role("button", name="Clear all").click()
    loading[0].continue_()
    expect(reaching.locator("#source-message")).to_be_empty()
    expect(reaching.locator(".photo")).to_have_count(0)
    enter(reaching, f"{elsewhere}/open/next.jpg")
    expect(card(reaching, "next.jpg").locator(".label")).to_have_text("cat")
    expect(reaching.locator(".photo")).to_have_count(1)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/cat.jpg", "ftp://example.org/cat.jpg", "about:blank"]
)
def test_only_https_addresses_are_loaded(page: Page, address: str) -> None:
    enter(page, address)
    expect(page.locator("#source-message")).to_contain_text("must begin with https://")
    choose(page, CAT)
    expect(page.locator("#source-message")).to_be_empty()


def test_an_example_without_a_network(browser: Browser, service: Service) -> None:
    with opened(browser, service.port, quiet="ERR_INTERNET_DISCONNECTED") as page:
        example = page.locator(".example").first
        expect(example).to_be_visible()
        page.context.set_offline(True)
        example.click()
        expect(page.locator("#source-message")).to_have_text(
            "The service can't be reached. Check the connection."
        )
        page.context.set_offline(False)


def paste(page: Page, text: str, onto: str = "h1") -> None:
    page.evaluate(
        """([text, onto]) => {
            const data = new DataTransfer();
            data.setData("text/plain", text);
            const event = new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true});
            document.querySelector(onto).dispatchEvent(event);
        }""",
        [text, onto],
    )


def test_an_address_can_be_pasted(reaching: Page, elsewhere: str) -> None:
    paste(reaching, f"{elsewhere}/open/cat.jpg")
    expect(card(reaching, "cat.jpg").locator(".label")).to_have_text("cat")
    paste(reaching, "some words")
    paste(reaching, f"{elsewhere}/open/other.jpg", onto="#key-value")
    paste(reaching, "data:image/jpeg;base64," + base64.b64encode(CAT.read_bytes()).decode())
    expect(card(reaching, "photo").locator(".label")).to_have_text("cat")
    expect(reaching.locator(".photo")).to_have_count(2)


def drop(page: Page, kind: str, value: str) -> bool:
    """Drop something on the page; return whether the browser would go there."""
    return bool(
        page.evaluate(
            """([kind, value]) => {
                const data = new DataTransfer();
                data.setData(kind, value);
                const fire = (type) => document.querySelector("h1").dispatchEvent(
                    new DragEvent(type, {dataTransfer: data, bubbles: true, cancelable: true}));
                fire("dragenter");
                return fire("dragover") || fire("drop");
            }""",
            [kind, value],
        )
    )


def test_a_dropped_link_is_loaded_and_does_not_leave_the_page(reaching: Page, elsewhere: str) -> None:
    assert not drop(reaching, "text/uri-list", f"# a comment\r\n{elsewhere}/open/cat.jpg")
    expect(card(reaching, "cat.jpg").locator(".label")).to_have_text("cat")
    assert not drop(reaching, "text/plain", "words")
    expect(reaching.locator("body")).not_to_have_class("dragging")


def test_a_link_of_the_page_itself_can_be_dropped_on_it(page: Page) -> None:
    address = page.url
    page.get_by_role("link", name="API").drag_to(page.locator("h1"))
    assert page.url == address
    expect(page.locator(".photo")).to_have_count(0)
    expect(page.locator("#source-message")).to_be_hidden()


def test_the_camera_of_a_computer(camera_browser: Browser, service: Service) -> None:
    with opened(camera_browser, service.port) as page:
        page.get_by_role("button", name="Use the camera").click()
        dialog = page.get_by_role("dialog", name="Camera")
        expect(dialog).to_be_visible()
        page.evaluate("document.querySelector('video').dataset.seen = ''")
        ended = "window.tracks.every((track) => track.readyState == 'ended')"
        tracks = "window.tracks ??= document.querySelector('video').srcObject?.getTracks()"
        wait_until(page, lambda: page.evaluate(f"({tracks})?.length"))
        dialog.get_by_role("button", name="Take the photo").click()
        expect(dialog).to_be_hidden()
        wait_until(page, lambda: page.evaluate(ended))
        expect(card(page, "camera.jpg").locator(".label")).to_be_visible()
        assert page.locator(".preview").evaluate("e => e.naturalWidth") >= 640
        for close in (lambda: page.keyboard.press("Escape"), lambda: page.get_by_text("Close").click()):
            page.get_by_role("button", name="Use the camera").click()
            page.evaluate("delete window.tracks")
            wait_until(page, lambda: page.evaluate(f"({tracks})?.length"))
            close()
            wait_until(page, lambda: page.evaluate(ended))
            assert page.evaluate("document.querySelector('video').srcObject") is None


def test_the_shutter_stays_in_place_when_the_camera_starts(camera_browser: Browser, service: Service) -> None:
    with opened(camera_browser, service.port) as page:
        page.evaluate(
            """() => {
                const camera = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
                const allowed = new Promise((resolve) => (window.allow = resolve));
                navigator.mediaDevices.getUserMedia = async (wanted) => (await allowed, camera(wanted));
            }"""
        )
        page.get_by_role("button", name="Use the camera").click()
        shutter = page.get_by_role("button", name="Take the photo")
        expect(shutter).to_be_disabled()
        before = shutter.bounding_box()
        page.evaluate("allow()")
        expect(shutter).to_be_enabled()
        assert shutter.bounding_box() == before


def test_a_camera_that_is_denied_has_a_message(camera_browser: Browser, service: Service) -> None:
    with opened(camera_browser, service.port) as page:
        page.evaluate(
            "() => { navigator.mediaDevices.getUserMedia = async () => { throw new DOMException() } }"
        )
        page.get_by_role("button", name="Use the camera").click()
        expect(page.locator("#source-message")).to_contain_text("The camera can't be used.")
        expect(page.get_by_role("dialog")).to_be_hidden()


def test_without_a_camera_none_is_offered(page: Page) -> None:
    expect(page.get_by_role("button", name="Choose photos")).to_be_visible()
    expect(page.get_by_role("button", name="Use the camera")).to_be_hidden()


def test_the_examples_are_small_photos() -> None:
    photos = sorted((Path(__file__).parents[3] / "app" / "static" / "examples").glob("*.jpg"))
    assert [path.stem for path in photos] == ["cat", "dog"]
    for path in photos:
        assert path.stat().st_size < 60_000
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            assert image.format == "JPEG"
