"""A waitress server that can be drained and stopped from any thread."""

import logging
import time

from flask import Flask
from waitress import wasyncore

from app.http.admission import Admission
from app.http.channel import Channel
from app.http.listener import Listener
from app.settings import Settings
from app.telemetry.metrics import Metrics

_LATE_CLIENTS_S = 1.0
"""At the end of a drain: how long clients that connected at the last moment have to send a request."""

_log = logging.getLogger(__name__)


class Server:
    """The HTTP server: listens as soon as it is created, and answers while `run` runs."""

    def __init__(
        self, app: Flask, settings: Settings, admission: Admission[Channel], metrics: Metrics
    ) -> None:
        """Bind the port.

        Raises:
            OSError: the service can't listen on the address.
        """
        self._listener = Listener(app, settings, admission, metrics)
        self._admission = admission
        self._drain_seconds = settings.drain_seconds
        self._drain_deadline: float | None = None
        self._exit_code: int | None = None

    @property
    def port(self) -> int:
        """TCP port that it listens on."""
        return self._listener.port

    @property
    def url(self) -> str:
        """Where a client on this machine finds the service."""
        return self._listener.url

    def run(self) -> int:
        """Answer requests until `stop` is called or a drain has ended; return the exit code."""
        while self._exit_code is None:
            longest = 0.02 if self._drain_deadline else 1.0
            self._turn(min(longest, max(0.0, self._admission.seconds_to_timeout())))
            if self._drain_deadline and (
                not self._requests_in_progress() or time.monotonic() > self._drain_deadline
            ):
                for channel, rejection in self._admission.remove_all():
                    self._listener.reject(channel, rejection)
                self._answer_late_clients()
                self._exit_code = 0
                if count := sum(channel.busy(late=True) for channel in self._channels()):
                    _log.warning("requests cut off", extra={"fields": {"count": count}})
        self._admission.stop()
        self._listener.task_dispatcher.shutdown(timeout=1)
        self._turn(0.0)  # sends the last responses
        self._listener.close_all()
        return self._exit_code

    def stop(self, exit_code: int) -> None:
        """Make `run` return soon. Safe in other threads and in signal handlers; the first call counts."""
        if self._exit_code is None:
            self._exit_code = exit_code
            self._listener.pull_trigger()

    def drain(self) -> None:
        """Finish requests in progress within DRAIN_SECONDS, reject new ones, then make `run` return 0."""
        if self._drain_deadline is None:
            self._admission.draining = True
            self._drain_deadline = time.monotonic() + self._drain_seconds
            self._listener.pull_trigger()

    @property
    def draining(self) -> bool:
        """Whether a drain is in progress."""
        return self._drain_deadline is not None

    def _turn(self, timeout: float) -> None:
        """Wait for data to receive or send, then answer some of the requests that need no thread."""
        for channel, rejection in self._admission.remove_timed_out():
            self._listener.reject(channel, rejection)
        self._listener.begin_turn()
        timeout = 0.0 if self._listener.has_immediate else timeout
        wasyncore.loop(timeout=timeout, use_poll=True, map=self._listener.sockets, count=1)
        self._listener.accept_some()
        self._listener.answer_immediate()

    def _channels(self) -> list[Channel]:
        return list(self._listener.active_channels.values())

    def _requests_in_progress(self) -> bool:
        return any(channel.busy(late=False) for channel in self._channels())

    def _answer_late_clients(self) -> None:
        """Close the listening socket, then answer clients that connected before that and send a request."""
        self._listener.close_listener()
        deadline, idle_turns = time.monotonic() + _LATE_CLIENTS_S, 0
        while idle_turns < 3 and time.monotonic() < deadline:
            self._turn(0.01)
            idle_turns = 0 if any(channel.busy(late=True) for channel in self._channels()) else idle_turns + 1
