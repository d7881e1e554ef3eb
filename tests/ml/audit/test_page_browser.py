"""The page of the audit in a real Chromium, with a real server: keys, mouse, screens, and what is saved."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page, expect

from ml.data import decisions
from tests.app.routes.test_page_accessibility import barriers
from tests.helpers.chromium import launched, opened, wait_until
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S
from tests.ml.audit.conftest import write_suspects

_SERVE = """
from pathlib import Path
from ml.audit.audit import SUSPECTS
from ml.audit.items import AuditItems
from ml.audit.suspects import Suspects
from ml.data import decisions
from ml.data.ingest import RAW
from ml.review.server import serve

serve(AuditItems(Suspects.load(SUSPECTS), RAW, decisions.PATH), 0)
"""


class Server(NamedTuple):
    process: "subprocess.Popen[str]"
    port: int
    path: str
    folder: Path

    def made(self) -> dict[str, tuple[str, str]]:
        """Action and label by path, as the file has them."""
        return {
            one.path: (one.decision, one.label)
            for one in decisions.load(self.folder / decisions.PATH).values()
        }


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Serve the page of an audit with these classes, as a process."""
    processes = []

    def start(classes: list[str], count: int = 4, merged: bool = False) -> Server:
        write_suspects(tmp_path, classes, count)
        if merged:
            merge_first(tmp_path / "reports/audit/suspects.json")
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stderr
        line = process.stderr.readline()
        address = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/[\w-]{20,}/) \(Ctrl-C ends\)\n", line)
        assert address, line
        return Server(process, int(address[1]), address[2], tmp_path)

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def merge_first(path: Path) -> None:
    """Turn the first two suspects into one photo with two labels."""
    content = json.loads(path.read_text())
    first, second, *rest = content["suspects"]
    both = {name: first[name] + second[name] for name in ("paths", "hashes", "labels")}
    content["suspects"] = [first | both | {"kind": "contradiction"}, *rest]
    path.write_text(json.dumps(content))


def ready(page: Page) -> None:
    expect(page.locator('#main[data-state="ready"]')).to_be_visible()


def press(page: Page, key: str, place: int) -> None:
    """Press a key, and wait until the photo at a place, from 1, is shown."""
    page.keyboard.press(key)
    at(page, place)


def at(page: Page, place: int) -> None:
    expect(page.locator("#item")).to_be_visible()
    expect(page.locator("#caption")).to_have_text(re.compile(f"^{place} of "))
    ready(page)


def test_one_key_per_decision_and_each_is_saved_at_once(
    browser: Browser, serve: Callable[..., Server]
) -> None:
    server = serve(["cat", "dog"])
    with opened(browser, server.port, server.path) as page:
        at(page, 1)
        expect(page.locator("#question")).to_have_text("Is the label “cat” right?")
        expect(page.locator("#reason")).to_contain_text("The prediction is “dog”, 90%.")
        expect(page.locator("#count")).to_have_text("0 of 4 decided")
        assert page.locator("#photos img").evaluate("image => image.naturalWidth") == 80
        press(page, "k", 2)
        assert server.made() == {"cat/0.jpg": ("keep", "")}
        press(page, "1", 3)
        assert server.made()["dog/1.jpg"] == ("relabel", "cat")
        press(page, "D", 4)
        assert server.made()["cat/2.jpg"] == ("drop", "")
        expect(page.locator("#count")).to_have_text("3 of 4 decided")
        expect(page.locator("#progress")).to_have_attribute("value", "3")
        press(page, "u", 3)
        assert "cat/2.jpg" not in server.made()
        press(page, "2", 4)
        assert server.made()["cat/2.jpg"] == ("relabel", "dog")
        page.keyboard.press("2")  # the present label
        expect(page.locator("#empty")).to_contain_text("All are decided")
        assert server.made()["dog/3.jpg"] == ("keep", "")
        press(page, "ArrowLeft", 4)
        press(page, "ArrowLeft", 3)
        expect(page.locator("#decision")).to_contain_text("Relabelled: dog")
        expect(page.get_by_role("button", name=re.compile("dog"))).to_have_attribute("aria-pressed", "true")
        press(page, "ArrowLeft", 2)
        press(page, "ArrowRight", 3)
        page.reload()
        expect(page.locator("#count")).to_have_text("4 of 4 decided")
        expect(page.locator("#empty")).to_be_visible()
        page.keyboard.press("u")  # of a decision from before the reload
        expect(page.locator("#count")).to_have_text("3 of 4 decided")
    server.process.send_signal(signal.SIGINT)
    output, _ = server.process.communicate(timeout=HANG_S)
    assert server.process.returncode == 0
    assert output == "3 of 4 are decided; `make train` obeys label_decisions.csv\n"


def test_with_the_mouse(browser: Browser, serve: Callable[..., Server]) -> None:
    server = serve(["cat", "dog"])
    with opened(browser, server.port, server.path) as page:
        at(page, 1)
        page.get_by_role("button", name="Drop").click()
        at(page, 2)
        page.get_by_role("button", name=re.compile("cat")).click()
        at(page, 3)
        page.get_by_role("button", name="Keep").click()
        at(page, 4)
        page.get_by_role("button", name="Undo").click()
        at(page, 3)
        page.get_by_role("button", name="Previous").click()
        at(page, 2)
        page.get_by_role("button", name="Next").click()
        at(page, 3)
        assert server.made() == {"cat/0.jpg": ("drop", ""), "dog/1.jpg": ("relabel", "cat")}


def test_a_key_that_is_held_down_decides_once(browser: Browser, serve: Callable[..., Server]) -> None:
    server = serve(["cat", "dog"], 8)
    with opened(browser, server.port, server.path) as page:
        at(page, 1)
        page.keyboard.down("d")
        at(page, 2)
        for _ in range(5):
            page.keyboard.down("d")  # as the keyboard repeats it
            page.wait_for_timeout(50)
        page.keyboard.up("d")
        assert len(server.made()) == 1
        page.keyboard.press("Control+d")
        page.keyboard.press("9")  # there is no such class
        press(page, "k", 3)
        assert len(server.made()) == 2


def test_many_classes(browser: Browser, serve: Callable[..., Server]) -> None:
    classes = [str(number) for number in range(40)] + ['a <b>"&', "Äpfel"]
    server = serve(classes, 3)
    with opened(browser, server.port, server.path) as page:
        at(page, 1)
        # The likeliest are first, also if their names are numbers.
        names = page.locator("#classes .name").all_text_contents()
        assert names == ["1", "0", "2", "3", "4", "5", "6", "7", "8"]
        press(page, "4", 2)
        assert server.made()["0/0.jpg"] == ("relabel", "3")
        page.keyboard.press("/")
        page.keyboard.type("äp")
        press(page, "Enter", 3)
        assert server.made()["1/1.jpg"] == ("relabel", "Äpfel")
        page.keyboard.press("/")
        page.keyboard.type("1")  # a whole name, though others begin with it
        page.keyboard.press("Enter")
        expect(page.locator("#count")).to_have_text("3 of 3 decided")
        assert server.made()["2/2.jpg"] == ("relabel", "1")
        press(page, "u", 3)
        page.keyboard.press("/")
        page.keyboard.type("kd")
        page.keyboard.press("Enter")
        assert (
            page.locator("#name")
            .evaluate("field => field.validationMessage")
            .startswith("There is no such class")
        )
        page.keyboard.press("Escape")
        assert "2/2.jpg" not in server.made()


def test_letters_are_keys_of_classes_too(browser: Browser, serve: Callable[..., Server]) -> None:
    server = serve([f"class {number:02}" for number in range(22)], 3)
    with opened(browser, server.port, server.path) as page:
        at(page, 1)
        keys = page.locator("#classes kbd").all_text_contents()
        assert "".join(keys) == "123456789ABCFGHIJLMOPQ"  # D, E, K, N and U are keys of other buttons
        press(page, "q", 2)
        assert server.made()["class 00/0.jpg"] == ("relabel", "class 21")


def test_a_decision_that_can_not_be_saved_is_not_shown_as_made(
    browser: Browser, serve: Callable[..., Server]
) -> None:
    server = serve(["cat", "dog"])
    with opened(browser, server.port, server.path) as page:
        at(page, 1)
        blocker = server.folder / f".label_decisions.csv.{server.process.pid}.part"
        blocker.mkdir()
        page.keyboard.press("d")
        expect(page.get_by_role("alert")).to_contain_text(
            "The decision was not saved: label_decisions.csv cannot be written"
        )
        expect(page.locator("#count")).to_have_text("0 of 4 decided")
        blocker.rmdir()
        press(page, "d", 2)
        expect(page.get_by_role("alert")).to_be_hidden()
        server.process.kill()
        server.process.wait()
        page.keyboard.press("d")
        expect(page.get_by_role("alert")).to_contain_text("the server does not answer")
        at(page, 2)


def test_a_photo_that_is_gone_can_still_be_dropped(browser: Browser, serve: Callable[..., Server]) -> None:
    server = serve(["cat", "dog"])
    (server.folder / "data/raw/cat/0.jpg").unlink()
    with opened(browser, server.port, server.path) as page:
        at(page, 1)
        expect(page.get_by_role("img", name="cat/0.jpg cannot be shown")).to_be_visible()
        press(page, "d", 2)


def test_copies_with_several_labels_and_the_filter(browser: Browser, serve: Callable[..., Server]) -> None:
    server = serve(["cat", "dog"], merged=True)
    with opened(browser, server.port, server.path) as page:
        at(page, 1)
        expect(page.locator("#question")).to_have_text("Which is right: “cat” or “dog”?")
        expect(page.locator("#photos img")).to_have_count(2)
        press(page, "2", 2)
        assert server.made() == {"cat/0.jpg": ("relabel", "dog"), "dog/1.jpg": ("relabel", "dog")}
        page.get_by_label("Show").select_option("several labels")
        expect(page.locator("#count")).to_have_text("1 of 1 decided")
        page.get_by_label("Show").select_option("unlike the classes")
        expect(page.locator("#empty")).to_be_visible()
        page.keyboard.press("d")
        page.get_by_label("Show").select_option("contradicted label")
        at(page, 1)
        assert len(server.made()) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_all_is_on_the_screen_and_axe_finds_no_barrier(
    browser: Browser, serve: Callable[..., Server], scheme: str, width: int
) -> None:
    server = serve(["cat", "dog"])
    mobile = width < 700
    options = {
        "viewport": {"width": width, "height": 844 if mobile else 720},
        "color_scheme": scheme,
        "has_touch": mobile,
        "is_mobile": mobile,
        "bypass_csp": True,
    }
    with opened(browser, server.port, server.path, **options) as page:
        at(page, 1)
        for part in ("#photos", "#question", "#classes", "#actions", "#next", "#progress"):
            expect(page.locator(part)).to_be_in_viewport(ratio=1)
        assert barriers(page) == []
        press(page, "d", 2)
        press(page, "ArrowLeft", 1)
        expect(page.get_by_role("button", name="Drop")).to_have_attribute("aria-pressed", "true")
        assert barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_each_photo_is_announced(browser: Browser, serve: Callable[..., Server]) -> None:
    server = serve(["cat", "dog"])
    with opened(browser, server.port, server.path) as page:
        at(page, 1)
        press(page, "d", 2)
        expect(page.get_by_role("status")).to_have_text(
            "Dropped. Is the label “dog” right? The classifier is sure of another class. "
            "The prediction is “cat”, 90%."
        )
        wait_until(page, lambda: page.get_by_role("img", name="Photo dog/1.jpg").count() == 1)
