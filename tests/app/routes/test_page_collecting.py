"""The page asks whether photos may be kept, and says who keeps what for how long; in a real Chromium."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from ml.__main__ import COMMANDS
from ml.cli import run
from ml.collected.store import Collected
from tests.app.routes.test_page_browser import card, choose, colour
from tests.helpers.chromium import opened
from tests.helpers.graphs import GREEN, write_telling
from tests.helpers.service import running
from tests.helpers.waiting import until

SAYS = (
    "{} may keep {} for 1 day to improve the model, and photos that train it for longer. "
    "The answers are kept with the photos; the photos' metadata is not."
)
Opening = Callable[..., AbstractContextManager[Page]]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def open_page(browser: Browser, tmp_path: Path, store: Path) -> Opening:
    @contextmanager
    def start(language: str = "en", **settings: str) -> Iterator[Page]:
        model = write_telling(tmp_path / "model.pt")
        settings = {"COLLECT_TO": str(store), "COLLECT_DAYS": "1"} | settings
        with running(LOG_LEVEL="error", MODEL_URL=model.as_uri(), **settings) as service:
            service.wait()
            with opened(browser, service.port, locale=language) as page:
                yield page

    return start


def ids(store: Path) -> list[str]:
    return [record.request_id for record in Collected(str(store)).records()]


def test_the_page_asks(open_page: Opening, store: Path) -> None:
    with open_page(COLLECT_OPERATOR="<b>Ada</b>, ada@example.org") as page:
        box = page.get_by_role("checkbox")
        expect(box).not_to_be_checked()
        expect(page.locator("#privacy")).to_have_text("Photos are stored only if you allow it.")
        label = SAYS.format("<b>Ada</b>, ada@example.org", "the photos that I send from now on")
        expect(page.get_by_label(label)).to_have_count(1)
        choose(page, colour("first.jpg", GREEN))
        expect(card(page, "first.jpg").locator(".label")).to_have_text("Something else")
        expect(card(page, "first.jpg").locator(".kept")).to_be_empty()
        box.check()
        choose(page, colour("second.jpg", GREEN))
        kept = card(page, "second.jpg").locator(".kept")
        expect(kept).to_contain_text("To have it deleted, send this ID to the operator: ")
        until(lambda: store.exists() and ids(store))
        (request_id,) = ids(store)
        expect(kept).to_contain_text(request_id)
        box.uncheck()
        choose(page, colour("third.jpg", GREEN))
        expect(card(page, "third.jpg").locator(".label")).to_have_text("Something else")
        page.reload()
        expect(page.get_by_role("checkbox")).not_to_be_checked()
        expect(card(page, "second.jpg").locator(".kept")).to_contain_text(request_id)
        assert ids(store) == [request_id]


def test_a_photo_whose_answer_was_lost_can_be_deleted(open_page: Opening, store: Path) -> None:
    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    with open_page() as page:
        page.get_by_role("checkbox").check()
        page.route("**/predict?*", lose, times=1)
        choose(page, colour("one.jpg", GREEN))
        card(page, "one.jpg").get_by_role("button", name="Try again").click()
        kept = card(page, "one.jpg").locator(".kept")
        expect(kept).to_contain_text("send this ID")
        until(lambda: len(ids(store)) == 2)
        (shown,) = (one for one in ids(store) if one in (kept.text_content() or ""))
    assert run("ml", "", COMMANDS, ["collected", str(store), "--delete", shown]) == 0
    assert ids(store) == []


@pytest.mark.parametrize("allowed_at_first", [True, False])
def test_the_consent_counts_when_a_photo_is_sent_again(open_page: Opening, allowed_at_first: bool) -> None:
    """The user may change it while the page waits for a busy service."""
    kept: list[bool] = []

    def answer(route: Route) -> None:
        kept.append("keep=1" in route.request.url)
        if len(kept) > 1:
            return route.continue_()
        return route.fulfill(status=503, body="{}", headers={"Retry-After": "300"})

    with open_page() as page:
        page.clock.install()
        page.route("**/predict*", answer)
        box = page.get_by_role("checkbox")
        box.set_checked(allowed_at_first)
        choose(page, colour("first.jpg", GREEN))
        expect(card(page, "first.jpg").locator(".message")).to_contain_text("Trying again in 300 s")
        box.set_checked(not allowed_at_first)
        page.clock.fast_forward(300_000)
        expect(card(page, "first.jpg").locator(".label")).to_have_text("Something else")
        assert kept == [allowed_at_first, not allowed_at_first]
        says = "" if allowed_at_first else re.compile("^The photo may have been kept")
        expect(card(page, "first.jpg").locator(".kept")).to_have_text(says)


def test_the_page_says_that_photos_are_kept(open_page: Opening, store: Path) -> None:
    with open_page("de", COLLECT_CONSENT="always") as page:
        expect(page.get_by_role("checkbox")).to_have_count(0)
        expect(page.locator("#privacy")).to_contain_text(
            "Der Betreiber dieses Dienstes darf Fotos aufbewahren, um das Modell zu verbessern: 1 Tag lang"
        )
        choose(page, colour("first.jpg", GREEN))
        until(lambda: store.exists() and ids(store))
        (request_id,) = ids(store)
        expect(card(page, "first.jpg").locator(".kept")).to_contain_text(request_id)


def test_without_a_store_the_page_asks_nothing(open_page: Opening) -> None:
    with open_page(COLLECT_TO="") as page:
        expect(page.get_by_role("checkbox")).to_have_count(0)
        expect(page.locator("#privacy")).to_have_text("Photos are not stored by the service.")
