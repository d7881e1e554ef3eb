"""Sends the metrics to a Pushgateway, for services that Prometheus can't scrape (METRICS_PUSH_URL)."""

import contextlib
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from app.settings import Settings
from app.telemetry.metrics import Metrics
from ml.model import NAME
from ml.model.urls import bare

_TIMEOUT_S = 5.0
_END_S = 1.0
"""How long the end of the service may wait for a gateway that hangs: orchestrators kill it after 30 s."""

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def pushing(settings: Settings, metrics: Metrics) -> Iterator[None]:
    """Push the metrics regularly while the context lasts, and delete them from the gateway at its end.

    Each process has a group of its own. A gateway keeps metrics forever, so a process that is killed leaves
    its last values behind; the age of `push_time_seconds`, which the gateway adds, shows that they are old.
    """
    if settings.metrics_push_url is None:
        yield
        return
    ended = threading.Event()
    arguments = (settings.metrics_push_url, settings.metrics_push_seconds, metrics, ended)
    thread = threading.Thread(target=_push, args=arguments, name="push", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_END_S)  # a gateway that hangs must not delay the end


def _push(url: str, every_s: float, metrics: Metrics, ended: threading.Event) -> None:
    from prometheus_client import delete_from_gateway, push_to_gateway

    gateway, handler = _gateway(url)
    group = {"instance": uuid.uuid4().hex[:12]}
    target: dict[str, Any] = {"job": NAME, "grouping_key": group, "timeout": _TIMEOUT_S, "handler": handler}
    failing = False
    while not ended.wait(every_s):
        try:
            push_to_gateway(gateway, registry=metrics.registry, **target)
            failing = False
        except Exception as error:  # noqa: BLE001  (whatever went wrong, the next push may succeed)
            if not failing:  # one line per outage, not per push; the error's text may contain the URL
                _log.warning("the metrics can't be pushed: %s; trying again", type(error).__name__)
            failing = True
    if failing:
        return
    try:
        delete_from_gateway(gateway, **target)
    except Exception as error:  # noqa: BLE001
        _log.warning("the pushed metrics can't be deleted from the gateway: %s", type(error).__name__)


def _gateway(url: str) -> tuple[str, Callable[..., Any]]:
    """Return the URL without user info, and the handler that sends requests to it."""
    from prometheus_client.exposition import basic_auth_handler, default_handler

    parts = urlsplit(url)
    if parts.username is None:
        return bare(parts), default_handler
    user, password = unquote(parts.username), unquote(parts.password or "")
    return bare(parts), partial(basic_auth_handler, username=user, password=password)
