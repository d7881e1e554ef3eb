"""What the page sends for a photo, and how it shows that on a slow line; in a real Chromium."""

import io
import json
import re
import socket
from collections.abc import Iterator
from email.parser import BytesParser
from threading import Event
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from ml.model.image import decode
from scripts.common.pictures import encoded
from tests.app.routes.test_page_browser import CAT, card, choose, colour
from tests.conftest import RED, encode
from tests.helpers.chromium import opened, wait_until
from tests.helpers.http_server import Handler, Server
from tests.helpers.service import Service, running

LARGE = (2016, 1512)


def large(form: str = "JPEG", orientation: int = 1, mode: str = "RGB") -> dict:
    """A file of the photo of a cat that is worth scaling down."""
    pixels = np.asarray(Image.open(CAT).convert("RGB").resize(LARGE), np.int16)
    noise = np.random.default_rng(0).integers(-12, 12, pixels.shape)
    image = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if orientation == 6:
        image = image.rotate(90, expand=True)
    file = encoded(image, form, exif=exif, quality=90)
    assert len(file) > 500_000
    return {"name": f"large.{form.lower()}", "mimeType": f"image/{form.lower()}", "buffer": file}


class Sent:
    """What arrived in front of the service: the content type and body of each request to /predict."""

    def __init__(self) -> None:
        self.bodies: list[tuple[str, bytes]] = []
        self.goes_on = Event()
        self.goes_on.set()

    def fields(self) -> dict[str, bytes]:
        """The fields of the latest form."""
        kind, body = self.bodies[-1]
        message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        return {
            str(part.get_param("name", header="Content-Disposition")): part.get_payload(decode=True)
            for part in message.get_payload()  # type: ignore[misc, union-attr]
        }


@pytest.fixture
def sent(service: Service) -> Iterator[tuple[Sent, int]]:
    """A proxy in front of the service: Playwright doesn't see the bodies of files."""
    record = Sent()

    class Proxy(Handler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.forward(None)

        def do_POST(self) -> None:
            left, body = int(self.headers["Content-Length"]), b""
            while left and (piece := self.rfile.read1(min(left, 64 * 1024))):
                left, body = left - len(piece), body + piece
                record.goes_on.wait(1)  # a line of 64 kB per second
            if left:
                return  # the browser has given up
            if self.path.startswith("/predict"):
                record.bodies.append((self.headers["Content-Type"], body))
            self.forward(body)

        def forward(self, body: bytes | None) -> None:
            headers = {"Content-Type": self.headers.get("Content-Type", "")} if body else {}
            with urlopen(Request(f"http://127.0.0.1:{service.port}{self.path}", body, headers)) as response:
                names = ("Content-Type", "Content-Security-Policy")
                kept = {name: response.headers.get(name, "") for name in names}
                self.answer(response.status, response.read(), kept)

    with Server(Proxy) as server:
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        yield record, server.server_port


def answered(page: Page, photo: dict) -> None:
    choose(page, photo)
    expect(card(page, photo["name"]).locator(".label")).to_have_text("cat")


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photo_is_scaled_down(
    browser: Browser, service: Service, sent: tuple[Sent, int], orientation: int
) -> None:
    photo = large(orientation=orientation)
    with opened(browser, sent[1]) as page:
        answered(page, photo)
    fields = sent[0].fields()
    assert list(fields) == ["size", "file"]
    assert fields["size"] == b"2016x1512"
    assert len(fields["file"]) < len(photo["buffer"]) / 8
    with Image.open(io.BytesIO(fields["file"])) as image:
        side = 2 * service.get("/model")[1]["image_size"]
        assert (image.format, image.size) == ("JPEG", (round(side * LARGE[0] / LARGE[1]), side))
        assert not image.getexif()
    difference = decode(photo["buffer"]).astype(int) - decode(fields["file"])
    assert np.abs(difference).mean() < 2
    whole, small = (
        service.predict(body)[1]["probabilities"]["cat"] for body in (photo["buffer"], fields["file"])
    )
    assert abs(whole - small) < 0.0005
    assert "large.jpeg" not in repr(sent[0].bodies)


def test_formats_that_only_the_browser_knows_are_converted(browser: Browser, sent: tuple[Sent, int]) -> None:
    drawn = '<rect width="150" height="200"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200">{drawn}</svg>'.encode()
    icon = io.BytesIO()
    Image.open(CAT).convert("RGB").resize((128, 128)).save(icon, "ICO", sizes=[(128, 128)])
    with opened(browser, sent[1]) as page:
        for name, kind, content, size in (
            ("drawing.svg", "image/svg+xml", svg, b"300x200"),
            ("cat.ico", "image/x-icon", icon.getvalue(), b"128x128"),
        ):
            choose(page, {"name": name, "mimeType": kind, "buffer": content})
            expect(card(page, name).locator(".label")).to_be_visible()
            fields = sent[0].fields()
            assert fields["size"] == size
            assert fields["file"].startswith(b"\xff\xd8\xff")


def test_transparency_is_put_over_white(browser: Browser, sent: tuple[Sent, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (1000, 1000, 4), np.uint8)
    pixels[..., 3] = 0
    with opened(browser, sent[1]) as page:
        choose(page, {"name": "clear.png", "mimeType": "image/png", "buffer": encode(pixels, "PNG")})
        expect(card(page, "clear.png").locator(".label")).to_be_visible()
    assert decode(sent[0].fields()["file"]).min() > 250


def test_the_original_is_sent_if_the_browser_cannot_decode_all_of_it(
    browser: Browser, sent: tuple[Sent, int], service: Service
) -> None:
    whole = large()["buffer"]
    cut = {"name": "cut.jpeg", "mimeType": "image/jpeg", "buffer": whole[: len(whole) // 2]}
    with opened(browser, service.port) as page:
        choose(page, cut)
        expect(card(page, "cut.jpeg").locator(".message")).to_contain_text("truncated or corrupt")


NOISE = """
const original = CanvasRenderingContext2D.prototype.getImageData;
CanvasRenderingContext2D.prototype.getImageData = function (...box) {
    const pixels = original.apply(this, box);
    pixels.data[40] ^= 1;
    return pixels;
};
"""


def test_the_original_is_sent_if_the_browser_adds_noise_to_canvases(
    browser: Browser, sent: tuple[Sent, int]
) -> None:
    photo = large()
    with opened(browser, sent[1]) as page:
        page.add_init_script(NOISE)
        page.reload()
        answered(page, photo)
        assert (
            json.loads(page.evaluate("sessionStorage.answers"))[0]["seen"] == ""
        )  # a picture would be noise
    assert sent[0].bodies == [("image/jpeg", photo["buffer"])]


def test_a_photo_over_the_limit_is_sent_if_its_smaller_version_is_not(browser: Browser) -> None:
    photo = large("PNG")
    assert len(photo["buffer"]) > 2**20
    with running(LOG_LEVEL="error", MAX_UPLOAD_MB="1") as service:
        service.wait()
        with opened(browser, service.port) as page:
            answered(page, photo)


def test_a_slow_upload_has_a_progress_bar_and_can_be_cancelled(
    browser: Browser, sent: tuple[Sent, int]
) -> None:
    noise = np.random.default_rng(0).integers(
        0, 255, (400, 7500, 3), np.uint8
    )  # so narrow that it isn't scaled
    photo = {"name": "noise.png", "mimeType": "image/png", "buffer": encode(noise, "PNG")}
    with opened(browser, sent[1]) as page:
        expect(page).to_have_title("Cat or dog?")
        sent[0].goes_on.clear()
        choose(page, photo)
        noisy = card(page, "noise.png")
        bar = noisy.get_by_role("progressbar", name="Sending noise.png")
        expect(bar).to_be_visible()
        wait_until(page, lambda: float(bar.evaluate("e => e.value")) > 0)
        assert float(bar.evaluate("e => e.value")) < 1
        expect(noisy.locator(".message")).to_have_text(re.compile(r"^Sending: \d+\.\d%$"))
        noisy.get_by_role("button", name="Cancel: noise.png").click()
        expect(noisy.locator(".message")).to_have_text("Cancelled.")
        expect(bar).to_be_hidden()
        assert sent[0].bodies == []
        sent[0].goes_on.set()
        noisy.get_by_role("button", name="Try again: noise.png").click()
        expect(noisy).to_have_attribute("data-state", "answered")
        expect(bar).to_be_hidden()


def removed(page: Page, name: str) -> None:
    card(page, name).get_by_role("button", name=f"Remove {name}").click()


def sent_meanwhile(page: Page, asked: list[str]) -> int:
    """Requests so far for other photos, when one that was chosen now is answered and a second has passed."""
    choose(page, colour("next.jpg", RED))
    expect(card(page, "next.jpg")).to_have_attribute("data-state", "answered")
    page.wait_for_timeout(1000)  # only a request that must not come is awaited
    return len(asked) - 1


def test_a_photo_that_is_removed_while_the_service_is_busy_is_not_sent_again(page: Page) -> None:
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) > 1:
            return route.continue_()
        return route.fulfill(
            status=503, body="<html>", content_type="text/html", headers={"Retry-After": "30"}
        )

    page.route("**/predict*", answer)
    choose(page, CAT)
    expect(card(page, "cat.jpg").locator(".message")).to_contain_text("Trying again in 30 s")
    removed(page, "cat.jpg")
    assert sent_meanwhile(page, asked) == 1
    expect(page.locator("#announce")).not_to_contain_text("cat.jpg")


SLOW_READING = """() => {
    const read = Blob.prototype.arrayBuffer;
    Blob.prototype.arrayBuffer = async function () {
        if (this.size > 1000 && !window.goesOn) await new Promise((done) => (window.goesOn = done));
        return read.call(this);
    };
}"""


UNREADABLE = """
Blob.prototype.arrayBuffer = async function () {
    if (this.size > 1) throw new DOMException("", "NotReadableError");
}
"""


def test_a_photo_that_cannot_be_read_after_all_has_a_message(page: Page) -> None:
    expect(page).to_have_title("Cat or dog?")
    page.evaluate(UNREADABLE)
    choose(page, CAT)
    expect(card(page, "cat.jpg").locator(".message")).to_have_text("This file can't be read.")
    expect(card(page, "cat.jpg")).to_have_attribute("aria-busy", "false")


def test_a_photo_that_is_removed_while_it_is_read_is_not_sent(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: "predict" in request.url and asked.append(request.url))
    expect(page).to_have_title("Cat or dog?")
    page.evaluate(SLOW_READING)
    choose(page, CAT)
    wait_until(page, lambda: page.evaluate("Boolean(window.goesOn)"))
    removed(page, "cat.jpg")
    page.evaluate("goesOn()")
    assert sent_meanwhile(page, asked) == 0


def test_the_file_dialog_lists_types_so_that_macos_converts(browser: Browser, service: Service) -> None:
    with opened(browser, service.port) as page:
        accepted = (page.locator("#files").get_attribute("accept") or "").split(",")
    assert {"image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "image/avif"} <= set(accepted)
    assert not {"image/*", "image/heic", "image/heif"} & set(accepted)
