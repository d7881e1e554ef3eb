"""The listening socket: accepts connections and decides which thread answers a request."""

import contextlib
import errno
import select
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from app import memory
from app.http import binding
from app.http.admission import Admission, RejectedError
from app.http.body_budget import BodyBudget
from app.http.channel import Channel
from app.http.eviction import least_valuable
from app.http.gate import PREDICT, Gate
from app.http.request import MAX_HEADER_BYTES
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.requests import PROBES

if TYPE_CHECKING:
    from app.http.fetching import Fetching

try:
    import resource
except ImportError:  # Windows, where sockets are not file descriptors
    resource = None  # type: ignore[assignment]

_IMMEDIATE = 32
"""Responses that the event loop's thread makes in one turn: about 10 ms of work."""
_ACCEPT = 32
"""Connections that are accepted in one turn: about 3 ms of work."""
_READ_S, _READ_FIRST_S = 0.01, 0.04
"""Time after which one turn of the loop reads no further connection. The longer one is for connections that
are new or were quiet, such as those of probes: they don't wait for clients that send all the time."""
_THREADS = 4
"""Threads for requests that are neither predictions nor answered immediately."""
_CONNECTIONS = 1000
_SELECT_CONNECTIONS = 400
"""If the system has no poll(): select() takes 512 sockets on Windows."""
_SPARE_DESCRIPTORS = 100
"""File descriptors for everything except connections and bodies: the model, threads, libraries."""
_NEARLY_FULL, _LEAST_PATIENCE = 0.75, 0.1
"""Share of the connections from which on clients get less time, and the share of the usual time that they get
when there is no more room. The bytes of bodies don't count: then one client could have others cut off."""
_SEND_BUFFER = 32 * 1024
"""Of the system for each connection; Linux doubles it. By itself, it would grow to megabytes."""
_UNREAD_S = 0.1
"""How often the bytes of responses that clients haven't read are counted."""
_IN_MEMORY = 1024 * 1024
"""Bytes of a request's body that are kept in memory; a larger body goes to a temporary file."""
_RECEIVE = 256 * 1024
"""Bytes of a body that are read at once. With waitress's 8,192 a photo would take many turns of the loop."""
_NO_LIMIT = 2**62
_RETRY_S = 0.05
"""Time to wait for room if no connection can be closed for a new one."""
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    """Listens from the moment it is created; the event loop that has `sockets` as its map serves it.

    Attributes:
        port: TCP port.
        url: where a client on this machine finds the service.
        sockets: every socket of the server by file descriptor: its own, the connections and the loop's
            trigger.
        round: the number of the round in which each connection is read once, see `may_read`.
        patience: share of the usual time that clients have to send a request, from 1 down to 0.1.
    """

    channel_class = Channel

    def __init__(
        self, app: Flask, settings: Settings, admission: Admission[Channel], metrics: Metrics
    ) -> None:
        """Bind the port.

        Raises:
            OSError: the service can't listen on the address.
        """
        listener, *others = binding.listen(settings.host, settings.port, _CONNECTIONS)
        self.port: int = listener.getsockname()[1]
        self.url = binding.url(settings.host, [listener, *others])
        self.sockets: dict[int, Any] = {}
        self.admission = admission
        self.metrics = metrics
        self.gate = Gate(settings)
        self.cors_origins = settings.cors_origins
        self.max_body_bytes = settings.max_upload_bytes
        self.budget = BodyBudget(memory.for_uploads(settings.max_upload_bytes))
        metrics.body_bytes.set_function(lambda: self.budget.used)
        self.round, self.patience = 1, 1.0
        self._reading_since: float | None = None
        self._skipped = self._accepts = False
        self._full_until = self._unread_until = 0.0
        self._loop_thread = 0
        self._immediate: deque[Channel] = deque()
        self._attention: deque[Channel] = deque()
        self._limit = _connection_limit(self.budget.limit)
        self._fetching = self._make_fetching(settings)
        self._waking, self._ended = threading.RLock(), False  # a signal handler may come in between
        super().__init__(
            app,
            self.sockets,
            _sock=listener,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
            adj=Adjustments(
                sockets=[listener],
                threads=_THREADS,
                backlog=_CONNECTIONS,
                connection_limit=self._limit,
                ident=None,
                clear_untrusted_proxy_headers=True,
                max_request_header_size=MAX_HEADER_BYTES,
                max_request_body_size=_NO_LIMIT,  # the gate and the receiver of chunks have the limit
                inbuf_overflow=_IN_MEMORY,
                recv_bytes=_RECEIVE,
                send_bytes=1,  # the thread that made a response sends it, without waking another thread
                channel_request_lookahead=1,  # keeps reading, and so notices clients that leave the queue
            ),
        )
        self._listening: deque[Any] = deque([self, *(binding.OtherSocket(self, other) for other in others)])

    def _make_fetching(self, settings: Settings) -> "Fetching | None":
        if not settings.allowed_image_hosts:
            return None
        from app.http.fetching import Fetching  # imported only here: most deployments don't use it

        return Fetching(settings, self)

    def begin_turn(self) -> None:
        """Prepare a turn of the loop: do what other threads left, and decide how long clients may take."""
        self._loop_thread = threading.get_ident()
        self._reading_since = None
        if not self._skipped:
            self.round += 1
        self._skipped = False
        full = len(self.sockets) / self._limit
        self.patience = min(1.0, max(_LEAST_PATIENCE, (1 - full) / (1 - _NEARLY_FULL)))
        for _ in range(len(self._attention)):
            self._attention.popleft().attend()
        if (now := time.monotonic()) >= self._unread_until:
            self._unread_until = now + _UNREAD_S
            self._limit_unread()

    def _limit_unread(self) -> None:
        """Close connections whose responses take most memory for most time, if all take too much."""
        channels: list[Channel] = [*self.active_channels.values()]
        excess = sum(channel.unread for channel in channels) - memory.MOST_UNREAD
        if excess <= 0:
            return
        now = time.monotonic()
        for channel in sorted(channels, key=lambda each: each.unread * (each.last_activity - now)):
            if excess > 0 and (unread := channel.unread):  # it may have been sent since
                excess -= unread
                self._evict(channel, "unread")

    def may_read(self, quiet: bool) -> bool:
        """Return whether a connection may be read in this turn of the loop.

        Once a turn has taken too long, the connections that are left are read in the next one. Only when all
        have been read a new round begins, so the first ones can't keep the others from being read.

        Args:
            quiet: whether the connection is new or was quiet before.
        """
        now = time.monotonic()
        if self._reading_since is None:
            self._reading_since = now
        late = now - self._reading_since > (_READ_FIRST_S if quiet else _READ_S)
        self._skipped = self._skipped or late
        return not late

    def attend(self, channel: Channel) -> None:
        """Have the loop's thread call `channel.attend`. Safe in other threads."""
        self._attention.append(channel)
        if threading.get_ident() != self._loop_thread:  # the loop itself does so before it waits again
            self.pull_trigger()

    def readable(self) -> bool:
        """Whether to wait for new connections."""
        return bool(self.accepting) and time.monotonic() >= self._full_until

    def handle_accept(self) -> None:
        """Note that clients want to connect. `accept_some` accepts them when this turn is nearly over.

        Otherwise a new connection could get the file descriptor of one that has just been closed, and with it
        what poll() said about that one.
        """
        self._accepts = True

    def accept_some(self) -> None:
        """Accept clients that want to connect; at the limit, each replaces the least valuable connection."""
        victims: list[Channel] | None = None
        for _ in range(_ACCEPT if self._accepts else 0):
            full = len(self.sockets) >= self._limit
            if full and victims is None:
                victims = least_valuable(self.active_channels.values(), _ACCEPT)[::-1]
            if full and not victims:  # all have requests that are being answered
                self._full_until = time.monotonic() + _RETRY_S
                break
            if not self._accept_one():
                break
            if full and victims:
                self._evict(victims.pop())
        self._accepts = False

    def _accept_one(self) -> bool:
        pair = None
        try:
            for _ in range(len(self._listening)):
                self._listening.rotate()  # in turn, so that none has to wait for the others
                if pair := self._listening[0].accept():
                    break
        except OSError as error:
            if error.errno in _NO_DESCRIPTOR:  # other programs of this machine may have taken them
                for victim in least_valuable(self.active_channels.values(), 1):
                    self._evict(victim)
                self._full_until = time.monotonic() + _RETRY_S  # the socket stays readable: don't spin
            return False
        if pair is None:
            return False
        connection, address = pair
        try:
            self.set_socket_options(connection)
        except OSError:  # macOS: the client has gone already
            connection.close()
        else:
            self.channel_class(self, connection, address, self.adj, map=self.sockets)
        return True

    def set_socket_options(self, conn: socket.socket) -> None:
        """Prepare an accepted connection."""
        super().set_socket_options(conn)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def _evict(self, channel: Channel, reason: str = "limit") -> None:
        self.metrics.closed.labels(reason).inc()
        channel.handle_close()

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
        if request.path in PROBES:
            self._immediate.appendleft(channel)
        elif request.error or (request.rejection and request.predicts):
            self._immediate.append(channel)
        elif request.predicts:
            try:
                if self._fetching and request.route == PREDICT and self._fetching.begin(channel):
                    return
            except RejectedError as rejection:
                self.reject(channel, rejection)
            else:
                self.admit(channel)
        else:
            self.task_dispatcher.add_task(channel)

    def admit(self, channel: Channel) -> None:
        """Have a worker answer a prediction, in its turn, or reject it. Safe in other threads."""
        try:
            self.admission.submit(channel)
        except RejectedError as rejection:
            self.reject(channel, rejection)

    def reject(self, channel: Channel, rejection: RejectedError) -> None:
        """Have a prediction answered with the rejection. Safe in other threads."""
        channel.requests[0].rejection = rejection
        self._immediate.append(channel)
        if threading.get_ident() != self._loop_thread:
            self.pull_trigger()

    @property
    def has_immediate(self) -> bool:
        """Whether requests wait for `answer_immediate`."""
        return bool(self._immediate)

    def answer_immediate(self) -> None:
        """Answer some of the requests that need no other thread; the rest in the next turn."""
        for _ in range(min(len(self._immediate), _IMMEDIATE)):
            self._immediate.popleft().service()

    def pull_trigger(self) -> None:
        """Wake the loop, unless it has ended: its descriptor may belong to another file by then."""
        with self._waking:
            if not self._ended:
                super().pull_trigger()

    def close_all(self) -> None:
        """Close every socket, once the loop has ended."""
        with self._waking:
            self._ended = True
            wasyncore.close_all(self.sockets)

    def close_listener(self) -> None:
        """Accept the connections that the kernel has established already, then listen no more."""
        while len(self.sockets) < self._limit and self._accept_one():
            pass
        for one in self._listening:
            one.del_channel(self.sockets)
            one.socket.close()


def _connection_limit(body_bytes: int) -> int:
    """Return how many connections this process can have, after raising its limit of file descriptors.

    Args:
        body_bytes: bytes that all request bodies may take; each larger body takes a descriptor, too.
    """
    limit = _CONNECTIONS if hasattr(select, "poll") else _SELECT_CONNECTIONS
    if resource is None:
        return limit
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = soft - _SPARE_DESCRIPTORS
    return max(10, min(limit, max(free // 2, free - body_bytes // _IN_MEMORY)))
