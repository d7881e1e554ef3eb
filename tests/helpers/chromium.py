"""A real Chromium that keeps account of what a page does wrong."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from scripts.common.chromium import CHROMIUM, launch
from tests.conftest import REQUIRE_ALL, not_installed
from tests.helpers.waiting import HANG_S

expect.set_options(timeout=1000 * HANG_S)


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    if not CHROMIUM and not REQUIRE_ALL:
        pytest.skip(not_installed("chromium"))
    assert CHROMIUM, "chromium is not installed"
    with sync_playwright() as playwright:
        browser = launch(playwright.chromium)
        yield browser
        browser.close()


class Watch:
    """What went wrong on a page: errors of scripts and of its policy, failed requests, other origins."""

    def __init__(self, page: Page, origin: str, allowed: str, quiet: str) -> None:
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.failed: list[str] = []
        self._allowed = allowed
        self._quiet = quiet
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)
        page.on("request", lambda request: self._request(request.url, origin))
        page.on("requestfailed", lambda request: self.failed.append(f"{request.url}: {request.failure}"))

    def _console(self, message: Any) -> None:
        # Chromium itself says so of every answer over 399; whether one is right is the test's business.
        expected = "Failed to load resource" in message.text or (self._quiet and self._quiet in message.text)
        if message.type in ("error", "warning") and not expected:
            self.errors.append(message.text)

    def _request(self, url: str, origin: str) -> None:
        if urlsplit(url).scheme not in ("blob", "data") and not url.startswith((f"{origin}/", self._allowed)):
            self.foreign.append(url)


def wait_until(page: Page, holds: Callable[[], object]) -> None:
    """Let the page go on until the condition holds; handlers of the page's events run meanwhile."""
    end = time.monotonic() + HANG_S
    while not holds():
        assert time.monotonic() < end, f"the condition did not hold within {HANG_S} s"
        page.wait_for_timeout(20)


def press_enter(control: Locator) -> None:
    """Press Enter on a control once it can be seen: Playwright would also press it, in vain, before that."""
    expect(control).to_be_visible()
    control.press("Enter")


@contextlib.contextmanager
def opened(
    browser: Browser, port: int, path: str = "/", allowed: str = "", quiet: str = "", **options: Any
) -> Iterator[Page]:
    """A page of its own context; nothing may have gone wrong on it when it is closed.

    Args:
        browser: opens the page.
        port: of the service, on loopback.
        path: of the page.
        allowed: another origin that it may load from.
        quiet: errors with this text in the console are expected.
        options: of the context.
    """
    origin = f"http://127.0.0.1:{port}"
    context = browser.new_context(**options)
    context.set_default_timeout(1000 * HANG_S)
    page = context.new_page()
    watch = Watch(page, origin, allowed or origin, quiet)
    page.goto(f"{origin}{path}")
    try:
        yield page
    except BaseException as error:
        error.add_note(f"on the page: {watch.errors}; failed requests: {watch.failed}")
        raise
    context.close()
    assert watch.errors == []
    assert watch.foreign == []
