"""METRICS_PUSH_URL: the metrics, sent to a Pushgateway from where nothing can scrape."""

import logging
import threading
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from app.metrics import Metrics
from app.settings import Settings

JOB = "cats-vs-dogs"

_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class Push:
    """A thread that sends, each process's metrics in a group of their own, and takes them back at the end.

    A gateway keeps what it was sent for ever, so a process that is killed leaves its last figures behind: the
    age of `push_time_seconds`, which the gateway adds, tells.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Send nothing yet."""
        self._url = settings.metrics_push_url
        self._every_s = settings.metrics_push_seconds
        self._metrics = metrics
        self._instance = {"instance": uuid.uuid4().hex[:12]}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)

    def start(self) -> None:
        """Begin, if there is where to."""
        if self._url:
            self._thread.start()

    def stop(self) -> None:
        """End within seconds, with what was sent taken back."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(2 * _TIMEOUT_S)

    def _run(self) -> None:
        from prometheus_client import delete_from_gateway, push_to_gateway

        gateway, handler = _gateway(self._url or "")
        failing = False
        to: dict[str, Any] = {
            "job": JOB,
            "grouping_key": self._instance,
            "timeout": _TIMEOUT_S,
            "handler": handler,
        }
        while not self._stopped.wait(self._every_s):
            try:
                push_to_gateway(gateway, registry=self._metrics.registry, **to)
            except Exception as error:  # noqa: BLE001  (whatever it is, the next one may succeed)
                if not failing:  # one line for an outage, not one a push; its text may hold the URL
                    _log.warning("the metrics can't be pushed: %s", type(error).__name__)
                failing = True
            else:
                failing = False
        try:
            delete_from_gateway(gateway, **to)
        except Exception as error:  # noqa: BLE001
            _log.warning("the pushed metrics can't be taken back: %s", type(error).__name__)


def _gateway(url: str) -> tuple[str, Callable[..., Any]]:
    """Return the URL without user info, and what sends to it."""
    from prometheus_client.exposition import basic_auth_handler, default_handler

    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
    if parts.username is None:
        return bare, default_handler
    return bare, partial(
        basic_auth_handler, username=unquote(parts.username), password=unquote(parts.password or "")
    )
