"""The review of collected photos in a real Chromium: keys, groups, evidence, two people, screens."""

import contextlib
import itertools
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from ml.data import reviewed
from ml.review.server import HOST
from tests.app.routes.test_page_accessibility import barriers
from tests.conftest import encode
from tests.helpers.chromium import launched, opened
from tests.helpers.params import copy_params
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S
from tests.ml.audit.test_page_browser import at, press
from tests.ml.review.conftest import kept


class Server(NamedTuple):
    process: "subprocess.Popen[str]"
    port: int
    path: str

    def made(self) -> dict[int, str]:
        """Class or decision by the number of the photo."""
        return {int(entry.id, 16): entry.label or entry.decision for entry in reviewed.load().values()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


def shrunk(name: str, quality: int) -> bytes:
    with Image.open(ROOT / f"tests/photos/{name}.jpg") as photo:
        photo.thumbnail((640, 640))
        return encode(np.asarray(photo.convert("RGB")), quality=quality)


@pytest.fixture
def server(store: Path, tmp_path: Path) -> Iterator[Server]:
    """The command, on a store with a group of two cats and three further photos, the last one random."""
    copy_params(tmp_path)
    answers = {"answer": {"label": "cat", "probabilities": {"cat": 0.55, "dog": 0.45}, "known": 0.9}}
    kept(store, 1, shrunk("cat", 90), **answers, reasons=("contradicted",), actual="dog")
    kept(store, 2, shrunk("cat", 60), **answers)
    kept(store, 3, shrunk("dog", 90), **answers)
    kept(store, 4, shrunk("other/duck", 90), **answers, reasons=("unknown",))
    kept(store, 5, shrunk("other/duck", 50), **answers, reasons=("random", "unsure"))
    process = subprocess.Popen(
        [sys.executable, "-m", "ml", "review", str(store), "--port", "0"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    for line in process.stderr:
        if address := re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/[\w-]+/) \(Ctrl-C ends\)\n", line):
            break
    else:
        pytest.fail(f"it ended: {process.wait()}")
    yield Server(process, int(address[1]), address[2])
    process.kill()
    process.communicate()


@pytest.fixture
def visit(browser: Browser, server: Server) -> Callable[..., object]:
    return lambda **options: opened(browser, server.port, server.path, **options)


def test_one_key_per_class_for_a_group_and_undo(server: Server, visit: Callable[..., object]) -> None:
    with visit() as page:
        at(page, 1)
        expect(page.locator("#question")).to_have_text("What do these 2 photos show?")
        expect(page.locator("#reason")).to_contain_text("Feedback says “dog”.")
        expect(page.locator("#photos img")).to_have_count(2)
        assert page.locator("#photos img").first.evaluate("image => image.naturalWidth") == 451
        expect(page.locator("#figures")).to_have_text(
            "Accuracy: nothing of the random sample is decided yet."
        )
        press(page, "1", 2)
        assert server.made() == {1: "cat", 2: "cat"}
        expect(page.locator("#count")).to_have_text("1 of 4 decided")
        expect(page.locator("#progress")).to_have_attribute("value", "1")
        press(page, "u", 1)
        assert server.made() == {}
        press(page, "2", 2)
        press(page, "N", 3)
        press(page, "ArrowRight", 4)
        expect(page.locator("#reason")).to_contain_text("random sample")
        expect(page.locator("#classes .share")).to_have_count(0)
        expect(page.get_by_role("button", name="Evidence")).to_have_count(0)
        press(page, "n", 3)
        expect(page.locator("#figures")).to_have_text(
            "Accuracy on the random sample: 0.0% (95% interval 0.0% to 79.3%), 1 photos."
        )
        page.keyboard.press("d")
        expect(page.locator("#empty")).to_contain_text("All are decided.")
        assert sorted(server.made().values()) == ["discard", "dog", "dog", "none", "none"]
        page.reload()
        expect(page.locator("#empty")).to_contain_text("All are decided.")
        press(page, "u", 3)  # of a decision from before the reload
    server.process.send_signal(signal.SIGINT)
    output, _ = server.process.communicate(timeout=HANG_S)
    assert server.process.returncode == 0
    assert output.startswith("3 of 4 are decided; `python -m ml review SOURCE --export` puts")


def test_the_evidence_lies_over_the_square_that_the_model_sees(
    server: Server, visit: Callable[..., object]
) -> None:
    with visit(viewport={"width": 1280, "height": 720}) as page:
        at(page, 1)
        page.keyboard.press("e")
        expect(page.locator(".evidence img")).to_have_count(2)
        for overlay in page.locator(".evidence img").all():
            box = overlay.bounding_box()
            assert box
            assert box["width"] == pytest.approx(box["height"], rel=0.02)
        expect(page.get_by_role("img", name="Evidence for cat")).to_have_count(2)
        press(page, "ArrowRight", 2)
        expect(page.locator(".evidence img")).to_have_count(1)
        page.keyboard.press("e")
        expect(page.locator(".evidence img")).to_have_count(0)
        assert server.made() == {}


def test_two_people_share_the_work(server: Server, visit: Callable[..., object]) -> None:
    with visit() as one, visit() as two:
        at(one, 1)
        at(two, 2)
        press(one, "1", 3)
        press(two, "2", 4)
        one.keyboard.press("n")
        expect(one.locator("#empty")).to_contain_text("Other people are looking")
        two.keyboard.press("d")
        expect(two.locator("#empty")).to_contain_text("All are decided.")
        one.keyboard.press("ArrowRight")
        expect(one.locator("#empty")).to_contain_text("All are decided.")
    assert len(server.made()) == 5


def test_a_second_process_is_locked_out_and_a_kill_loses_nothing(
    server: Server, visit: Callable[..., object], store: Path, tmp_path: Path
) -> None:
    with visit() as page:
        at(page, 1)
        press(page, "1", 2)
    command = [sys.executable, "-m", "ml", "review", str(store), "--port", "0"]
    options = {"cwd": tmp_path, "env": {"PYTHONPATH": str(ROOT), "PATH": ""}, "text": True}
    done = subprocess.run(command, capture_output=True, timeout=HANG_S, check=False, **options)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: another process is writing collected_decisions.csv: end it first"
    )
    server.process.kill()
    server.process.wait()
    assert server.made() == {1: "cat", 2: "cat"}
    next(store.glob(f"*/{5:032x}.jpg")).write_bytes(b"another file")
    with subprocess.Popen(command, stderr=subprocess.PIPE, **options) as again:
        assert again.stderr
        lines = list(itertools.takewhile(lambda line: not line.startswith("http://"), again.stderr))
        again.kill()
    assert "left out: 1 photos that are not what their record describes\n" in lines


@pytest.mark.parametrize("framing", ["Content-Length: 1000000000", "Transfer-Encoding: chunked"])
def test_a_body_is_stored_only_as_far_as_a_decision_is_long(server: Server, framing: str) -> None:
    """Whoever reaches the port could otherwise fill the disk without the token."""
    with socket.create_connection((HOST, server.port), HANG_S) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
        part = b"8000\r\n%s\r\n" % bytes(0x8000)
        with contextlib.suppress(OSError):  # it is refused meanwhile
            for _ in range(1000):
                connection.sendall(part)
            pytest.fail("the server takes it all")
        with contextlib.suppress(ConnectionResetError):
            assert b" 413 " in connection.recv(1000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_all_is_on_the_screen_and_axe_finds_no_barrier(
    server: Server, visit: Callable[..., object], tmp_path: Path, scheme: str, width: int
) -> None:
    mobile = width < 700
    options = {
        "viewport": {"width": width, "height": 844 if mobile else 720},
        "color_scheme": scheme,
        "has_touch": mobile,
        "is_mobile": mobile,
        "bypass_csp": True,
    }
    with visit(**options) as page:
        at(page, 1)
        page.keyboard.press("e")
        expect(page.locator(".evidence img")).to_have_count(2)
        for part in ("#photos", "#question", "#classes", "#actions", "#next", "#progress", "#figures"):
            expect(page.locator(part)).to_be_in_viewport(ratio=1)
        assert barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        picture(page, tmp_path, f"{scheme}-{width}-group")
        press(page, "ArrowRight", 2)
        picture(page, tmp_path, f"{scheme}-{width}-one")


def picture(page: Page, folder: Path, name: str) -> None:
    """Leave a picture of the page for people who look at it."""
    page.screenshot(path=folder / f"{name}.png")
