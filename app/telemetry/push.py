"""Sends the metrics to a Pushgateway, for services that Prometheus can't scrape (METRICS_PUSH_URL)."""

import logging
import threading
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from app.settings import Settings
from app.telemetry.metrics import Metrics

JOB = "cats-vs-dogs"

_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class Push:
    """A thread that pushes the metrics regularly, and deletes them from the gateway at the end.

    Each process has a group of its own. A gateway keeps metrics forever, so a process that is killed leaves
    its last values behind; the age of `push_time_seconds`, which the gateway adds, shows that they are old.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Prepare; `start` begins to push."""
        self._url = settings.metrics_push_url
        self._every_s = settings.metrics_push_seconds
        self._metrics = metrics
        self._instance = {"instance": uuid.uuid4().hex[:12]}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)

    def start(self) -> None:
        """Start the thread if METRICS_PUSH_URL is set."""
        if self._url:
            self._thread.start()

    def stop(self) -> None:
        """End the thread within seconds and delete the pushed metrics."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(2 * _TIMEOUT_S)

    def _run(self) -> None:
        from prometheus_client import delete_from_gateway, push_to_gateway

        gateway, handler = _gateway(self._url or "")
        failing = False
        target: dict[str, Any] = {
            "job": JOB,
            "grouping_key": self._instance,
            "timeout": _TIMEOUT_S,
            "handler": handler,
        }
        while not self._stopped.wait(self._every_s):
            try:
                push_to_gateway(gateway, registry=self._metrics.registry, **target)
            except Exception as error:  # noqa: BLE001  (whatever went wrong, the next push may succeed)
                if not failing:  # one line per outage, not per push; the error's text may contain the URL
                    _log.warning("the metrics can't be pushed: %s; trying again", type(error).__name__)
                failing = True
            else:
                failing = False
        try:
            delete_from_gateway(gateway, **target)
        except Exception as error:  # noqa: BLE001
            _log.warning("the pushed metrics can't be deleted from the gateway: %s", type(error).__name__)


def _gateway(url: str) -> tuple[str, Callable[..., Any]]:
    """Return the URL without user info, and the handler that sends requests to it."""
    from prometheus_client.exposition import basic_auth_handler, default_handler

    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    if parts.username is None:
        return bare, default_handler
    return bare, partial(
        basic_auth_handler, username=unquote(parts.username), password=unquote(parts.password or "")
    )
