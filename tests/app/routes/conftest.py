"""The page of a real service, in a browser."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.helpers.service import Service, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """The service with the embedded model; a module may define another one."""
    with running(LOG_LEVEL="error") as service:
        service.wait()
        yield service


@pytest.fixture
def page(browser: "Browser", service: Service) -> Iterator["Page"]:
    from tests.helpers.chromium import opened

    with opened(browser, service.port) as page:
        yield page
