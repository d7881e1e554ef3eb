"""waitress, with an end: a server that any thread or signal handler can stop, at once or after a drain."""

import contextlib
import logging
import resource
import socket
import time
from collections import deque
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.server import create_server

from app.admission import RejectedError
from app.channel import Channel
from app.settings import Settings

_log = logging.getLogger(__name__)

_PROBES = frozenset({"/health", "/ready"})
_AT_ONCE = 32
"""Answers that the loop's own thread gives in one turn: about 10 ms of work."""
_THREADS = 4
"""For all that is no prediction and isn't answered at once; the predictions have threads of their own."""
_CONNECTIONS = 1000
_SWALLOW = 4
"""Up to this many times MAX_UPLOAD_MB a body is read to its end: a client that is still sending when the
connection closes loses the 413. Beyond it the connection is cut."""
_NEVER = 2**31
_IN_MEMORY = 1024 * 1024
"""Bytes of a request's body that are held in memory; a larger one waits in the system's temporary folder."""
_RECEIVE = 256 * 1024
"""Bytes read at once: waitress's 8,192 would take a turn of its loop for each piece of a photo."""
_GOODBYE_S = 1.0


class Server:
    """Listens from the moment it is made; answers while `run` runs."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        """Bind the port.

        Raises:
            OSError: the address can't be listened on.
        """
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address, family=family, backlog=_CONNECTIONS)
        self.port: int = listener.getsockname()[1]
        self._map: dict[int, Any] = {}
        self._admission = app.extensions["admission"]
        self._at_once: deque[Channel] = deque()
        self._server = create_server(
            app,
            map=self._map,
            sockets=[listener],
            threads=_THREADS,
            backlog=_CONNECTIONS,
            connection_limit=_connection_limit(),
            cleanup_interval=_NEVER,  # waitress's stumbles over a connection that a thread closes meanwhile
            ident=None,
            clear_untrusted_proxy_headers=True,
            max_request_body_size=_SWALLOW * settings.max_upload_bytes + 1,
            inbuf_overflow=_IN_MEMORY,
            recv_bytes=_RECEIVE,
            send_bytes=1,  # the thread that made an answer sends it, rather than waking another to do it
            channel_request_lookahead=1,  # keeps reading, and so notices a client that hangs up in line
            asyncore_use_poll=True,
        )
        self._server.channel_class = Channel
        self._server.add_task = self._add_task
        self._accept_one = self._server.handle_accept
        self._server.handle_accept = self._accept
        self._server.admission = self._admission
        self._server.metrics = app.extensions["metrics"]
        self._drain_seconds = settings.drain_seconds
        self._drain_until: float | None = None
        self._exit_code: int | None = None

    def run(self) -> int:
        """Answer requests until `stop`, or until a drain has ended; return the exit code."""
        while self._exit_code is None:
            self._turn(min(0.02 if self._drain_until else 1.0, max(0.0, self._admission.patience())))
            if self._drain_until and (not self._open_requests() or time.monotonic() > self._drain_until):
                for channel, error in self._admission.dismiss():
                    self._refuse(channel, error)
                self._say_goodbye()
                self._exit_code = 0
                if cut := sum(channel.busy(late=True) for channel in self._channels()):
                    _log.warning("requests cut off", extra={"fields": {"count": cut}})
        self._admission.end()
        self._server.task_dispatcher.shutdown(timeout=1)
        self._turn(0.0)  # sends the last answers
        wasyncore.close_all(self._map)
        return self._exit_code

    def stop(self, exit_code: int) -> None:
        """Make `run` return soon. Safe from other threads and from signal handlers; the first call counts."""
        if self._exit_code is None:
            self._exit_code = exit_code
            self._server.pull_trigger()

    def drain(self) -> None:
        """Finish what has begun, within DRAIN_SECONDS, refuse what comes new, then make `run` return 0."""
        if self._drain_until is None:
            self._admission.draining = True
            self._drain_until = time.monotonic() + self._drain_seconds
            self._server.pull_trigger()

    @property
    def draining(self) -> bool:
        """Whether a drain is under way."""
        return self._drain_until is not None

    def _accept(self) -> None:
        """Take in every connection that waits, where waitress would take one a turn of its loop."""
        known = -1
        while known < len(self._server.active_channels) and self._server.readable():
            known = len(self._server.active_channels)
            self._accept_one()

    def _add_task(self, channel: Channel) -> None:
        """Give a complete request to a thread, or keep what the loop's own thread answers faster itself.

        That is what is known at once: probes, and refusals, which are the many under an overload. Nothing of
        a prediction's body is parsed before it has a slot, so that a refusal costs next to nothing.
        """
        request = channel.requests[0]
        request.began_work = time.perf_counter()
        with channel.outbuf_lock:
            held = channel.held = bool(channel.total_outbufs_len)
        if held:
            return  # until its client has read the answer before: waitress would make a thread wait for that
        if request.path in _PROBES:
            self._at_once.appendleft(channel)
        elif request.refusal:
            self._at_once.append(channel)
        elif request.predicts:
            try:
                self._admission.enter(channel)
            except RejectedError as error:
                self._refuse(channel, error)
        else:
            self._server.task_dispatcher.add_task(channel)

    def _refuse(self, channel: Channel, error: RejectedError) -> None:
        channel.requests[0].refusal = error
        self._at_once.append(channel)

    def _turn(self, timeout: float) -> None:
        """Wait for what comes in and out, then answer some of what needs no thread."""
        for channel, error in self._admission.overdue():
            self._refuse(channel, error)
        wasyncore.loop(timeout=0.0 if self._at_once else timeout, use_poll=True, map=self._map, count=1)
        for _ in range(min(len(self._at_once), _AT_ONCE)):  # the rest after a look at who else has come
            self._at_once.popleft().service()

    def _channels(self) -> list[Channel]:
        return list(self._server.active_channels.values())

    def _open_requests(self) -> bool:
        return any(channel.busy(late=False) for channel in self._channels())

    def _say_goodbye(self) -> None:
        """Take in the connections that the kernel has accepted for us, then answer those with a request."""
        self._accept()
        self._server.del_channel(self._map)
        self._server.socket.close()
        until, quiet = time.monotonic() + _GOODBYE_S, 0
        while quiet < 3 and time.monotonic() < until:
            self._turn(0.01)
            quiet = 0 if any(channel.busy(late=True) for channel in self._channels()) else quiet + 1


def _connection_limit() -> int:
    """Return how many connections fit this process's file descriptors, of which it first takes all it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(10, min(_CONNECTIONS, soft - 100))
