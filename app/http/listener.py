"""The listening socket: accepts connections and decides which thread answers a request."""

import contextlib
import select
import socket
import time
from collections import deque
from typing import Any

from flask import Flask
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from app.http.admission import Admission, RejectedError
from app.http.channel import Channel
from app.settings import Settings
from app.telemetry.metrics import Metrics

try:
    import resource
except ImportError:  # Windows, where sockets are not file descriptors
    resource = None  # type: ignore[assignment]

_PROBES = frozenset({"/health", "/ready"})
_IMMEDIATE = 32
"""Responses that the event loop's thread makes in one turn: about 10 ms of work."""
_THREADS = 4
"""Threads for requests that are neither predictions nor answered immediately."""
_CONNECTIONS = 1000
_SELECT_CONNECTIONS = 400
"""Where the system has no poll(): select() takes 512 sockets on Windows."""
_READ_TO_END = 4
"""A body of up to this many times MAX_UPLOAD_MB is read to its end: a client that is still sending when the
connection closes never sees the 413. Beyond that the connection is cut."""
_IN_MEMORY = 1024 * 1024
"""Bytes of a request's body that are kept in memory; a larger body goes to a temporary file."""
_RECEIVE = 256 * 1024
"""Bytes that are read at once. With waitress's 8,192 bytes a photo would take many turns of the loop."""


class Listener(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    """Listens from the moment it is created; the event loop that has `sockets` as its map serves it.

    Attributes:
        port: TCP port.
        sockets: every socket of the server by file descriptor: its own, the connections and the loop's
            trigger.
    """

    channel_class = Channel

    def __init__(
        self, app: Flask, settings: Settings, admission: Admission[Channel], metrics: Metrics
    ) -> None:
        """Bind the port.

        Raises:
            OSError: the service can't listen on the address.
        """
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address, family=family, backlog=_CONNECTIONS)
        self.port: int = listener.getsockname()[1]
        self.sockets: dict[int, Any] = {}
        self.admission = admission
        self.metrics = metrics
        self._immediate: deque[Channel] = deque()
        super().__init__(
            app,
            self.sockets,
            _sock=listener,
            sockinfo=(family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
            adj=Adjustments(
                sockets=[listener],
                threads=_THREADS,
                backlog=_CONNECTIONS,
                connection_limit=_connection_limit(),
                ident=None,
                clear_untrusted_proxy_headers=True,
                max_request_body_size=_READ_TO_END * settings.max_upload_bytes + 1,
                inbuf_overflow=_IN_MEMORY,
                recv_bytes=_RECEIVE,
                send_bytes=1,  # the thread that made a response sends it, without waking another thread
                channel_request_lookahead=1,  # keeps reading, and so notices clients that leave the queue
            ),
        )

    def handle_accept(self) -> None:
        """Accept every waiting connection; waitress would accept one per turn of the loop."""
        before = -1
        while before < len(self.active_channels) and self.readable():
            before = len(self.active_channels)
            super().handle_accept()

    def maintenance(self, now: float) -> None:
        """Do nothing: each channel checks its own time-outs."""

    def add_task(self, channel: Channel) -> None:
        """Pass a complete request to the thread that answers it.

        The event loop's thread itself answers what takes no time: probes, and rejected predictions, of which
        there are many in an overload. The body of a prediction is parsed only by a worker, so a rejection is
        cheap.
        """
        request = channel.requests[0]
        request.completed_at = time.perf_counter()
        with channel.outbuf_lock:
            blocked = channel.blocked = bool(channel.total_outbufs_len)
        if blocked:
            return  # until the client has read the response before; in waitress, a thread would wait for that
        if request.path in _PROBES:
            self._immediate.appendleft(channel)
        elif request.rejection:
            self._immediate.append(channel)
        elif request.predicts:
            try:
                self.admission.submit(channel)
            except RejectedError as rejection:
                self.reject(channel, rejection)
        else:
            self.task_dispatcher.add_task(channel)

    def reject(self, channel: Channel, rejection: RejectedError) -> None:
        """Have a prediction answered with the rejection."""
        channel.requests[0].rejection = rejection
        self._immediate.append(channel)

    @property
    def has_immediate(self) -> bool:
        """Whether requests wait for `answer_immediate`."""
        return bool(self._immediate)

    def answer_immediate(self) -> None:
        """Answer some of the requests that need no other thread; the rest in the next turn."""
        for _ in range(min(len(self._immediate), _IMMEDIATE)):
            self._immediate.popleft().service()

    def close_listener(self) -> None:
        """Accept the connections that the kernel has established already, then listen no more."""
        self.handle_accept()
        self.del_channel(self.sockets)
        self.socket.close()


def _connection_limit() -> int:
    """Return how many connections this process can have, after raising its limit of file descriptors."""
    limit = _CONNECTIONS if hasattr(select, "poll") else _SELECT_CONNECTIONS
    if resource is None:
        return limit
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(10, min(limit, soft - 100))
