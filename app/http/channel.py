"""A connection and its requests: waitress's class with the changes that `app.http` lists."""

import re
import socket
import time
from collections.abc import Callable
from typing import Any

from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import HTTPChannel
from werkzeug.exceptions import BadRequest, HTTPException, RequestTimeout

from app.http.addresses import peer_group
from app.http.body_budget import RequestBody
from app.http.request import MAX_HEADER_BYTES, Request, uploads_rejected
from app.http.tasks import AppTask, ProblemTask

_IDLE_S = 120
"""Seconds after which a connection is closed if the client neither sends a request nor reads a response."""
_STALLED_S = 5
"""Seconds without progress after which a client that doesn't read its response may lose the connection."""
_LINGER_S, _LINGER_IDLE_S = 30, 5
"""After the response to a request whose body was not wanted: how long a client may go on sending it, and how
long it may pause. If the connection were closed while it sends, it might never see the response."""
_LINGER_BODIES = 4
"""The most that it may send after the response, in largest bodies."""
_QUIET_S = 1
"""Seconds after which a connection that begins to send again is read before those that send all the time."""

_PIECE = 8 * 1024
"""Bytes that are read at once, except for those of a body. So there is little that can't be parsed yet."""

_EMPTY_LINES = re.compile(rb"[\r\n]{0,64}")


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection, whose requests are answered one after another.

    Attributes:
        blocked: whether a complete request waits until the client has read the response before it.
        peer: what counts as one client at the other end of the connection.
    """

    task_class: Callable[..., Any] = AppTask
    error_task_class: Callable[..., Any] = ProblemTask
    blocked = False
    request: Request | None
    will_close: bool
    close_when_flushed: bool
    _sending = False
    _rejected = False
    """Whether the last request got an error: nothing that comes after it is parsed."""
    _lingers_until = 0.0
    _dropped = 0
    """Bytes that were dropped after the last response."""
    _round = 0
    """In which round of the loop it was read last, see `Listener.may_read`."""
    _unparsed = b""
    """Bytes behind the requests that a connection may have at once."""

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any = None) -> None:
        super().__init__(server, sock, addr, adj, map)
        self.peer = peer_group(addr[0])

    @property
    def last_activity(self) -> float:
        """When data was last received or sent, by `time.monotonic`."""
        return self._last_activity

    @last_activity.setter
    def last_activity(self, _: float) -> None:
        # Waitress assigns wall-clock time, and a clock that is set would close or keep connections.
        self._last_activity = time.monotonic()

    def parser_class(self, adj: Any) -> Request:
        """Begin a request; one that begins during a drain is late."""
        request = Request(adj, self.server.budget)
        if self.server.admission.draining:
            request.mark_late()
        return request

    def handle_read(self) -> None:
        """Receive bytes, unless this turn of the loop has taken long enough already."""
        quiet = not self._round or time.monotonic() - self.last_activity > _QUIET_S
        if not self.server.may_read(quiet):
            return
        self._round = self.server.round
        if self._lingers_until:
            self._drop()
            return
        super().handle_read()
        connection = self.socket  # none if the client has gone
        if self._body_remain and connection is not None:  # a small photo takes one turn of the loop, not two
            try:
                data = connection.recv(self._receive_size())
            except OSError:  # it isn't there yet; for every other error, the next turn closes the connection
                return
            self.received(data)

    def recv(self, buffer_size: int) -> bytes:
        """Read no more than what may be parsed now. What is left over counts for no budget."""
        data: bytes = super().recv(buffer_size if self._lingers_until else self._receive_size())
        return data

    @property
    def _body_remain(self) -> int:
        return self.request.body_remain if self.request else 0

    def _receive_size(self) -> int:
        most: int = self.adj.recv_bytes
        return min(most, _PIECE + self._body_remain)

    def _drop(self) -> None:
        self._dropped += len(self.recv(self.adj.recv_bytes))
        self.last_activity = time.time()
        if self._dropped > _LINGER_BODIES * self.server.max_body_bytes:
            self.server.metrics.closed.labels("rejected").inc()
            self.handle_close()

    def received(self, data: bytes) -> bool:
        """Add bytes to the requests; parse as many requests as a connection may have at once."""
        with self.requests_lock:
            if self.will_close or self.close_when_flushed or self._rejected:
                return False
            self._parse(self._unparsed + data)
        return True

    def _parse(self, data: bytes) -> None:
        # Waitress would copy all bytes that follow for each request, even for each empty line.
        position = 0
        while len(self.requests) <= self.adj.channel_request_lookahead and not self._rejected:
            if self.request is None:
                if empty := _EMPTY_LINES.match(data, position):  # clients may send them between requests
                    position = empty.end()
                if position == len(data):
                    break
                self.request = self.parser_class(self.adj)
                if data[position] in b"\r\n":
                    self.request.reject(BadRequest("there are too many empty lines before a request"))
                    self._complete(self.request)
                    break
            elif position == len(data):
                break
            position += self._receive(self.request, data, position)
        self._unparsed = b"" if self._rejected else data[position:]

    def _receive(self, request: Request, data: bytes, position: int) -> int:
        """Pass bytes to a request; return how many of them belong to it."""
        in_header = not request.headers_finished
        size = MAX_HEADER_BYTES if in_header else len(data)
        consumed = request.received(data[position : position + size])
        if in_header and request.headers_finished and not request.error:
            self._check(request)
        wants_continue = request.expect_continue and request.headers_finished and not self.sent_continue
        if wants_continue and not self.requests:  # responses have to keep their order
            self.send_continue()
        if request.completed:
            self._complete(request)
        return consumed

    def _check(self, request: Request) -> None:
        """Decide about a request whose header is complete."""
        gate = self.server.gate
        request.client = gate.client(self.addr[0], request.headers)
        try:
            max_bytes = gate.check(request, request.route)
        except HTTPException as error:
            request.reject(error)
        else:
            if not request.completed:
                request.receive_body(RequestBody(request.client, lambda: self._shed(request)), max_bytes)

    def _complete(self, request: Request) -> None:
        """Have a complete request answered, after those before it. Needs `requests_lock`."""
        self.sent_continue = False
        self.request = None
        self._rejected = bool(request.error)
        self.requests.append(request)
        if len(self.requests) == 1:
            self.server.add_task(self)

    def _shed(self, request: Request) -> None:
        """Reject an upload because the bytes of all bodies exceed their limit."""
        # The loop's thread holds the lock of the connection whose bytes it received. That is another one: a
        # connection has at most one incomplete body, and the budget doesn't call this for the one that grows.
        self._give_up(request, uploads_rejected())

    def _give_up(self, request: Request | None, error: HTTPException) -> None:
        """Reject the request that is being received, unless it is complete by now."""
        with self.requests_lock:
            if request and self.request is request:
                request.reject(error)
                self._complete(request)

    def service(self) -> None:
        """Answer the first request."""
        if not self.connected and self.requests[0].predicts:  # left while queued: waitress skips the request
            self.server.metrics.rejected.labels("disconnected").inc()
        super().service()
        if self._unparsed:
            self.server.attend(self)

    def attend(self) -> None:
        """Parse bytes that had to wait; if the connection has ended, give up requests that nobody answers."""
        with self.requests_lock:
            if self.connected:
                if self._unparsed and not (self.will_close or self.close_when_flushed):
                    self._parse(self._unparsed)
                return
            self._unparsed = b""
            answered = 0 if self.blocked else 1  # a thread has the first request, and will close it
            abandoned = [*self.requests[answered:], *([self.request] if self.request else [])]
            del self.requests[answered:]
            self.request = None
        for request in abandoned:
            request.close()

    def handle_close(self) -> None:
        """Close the connection."""
        super().handle_close()
        self.server.attend(self)  # not now: this may be a thread that has one of the locks

    def send_continue(self) -> None:
        """Ask for the body if the client waits for that (`Expect: 100-continue`)."""
        if self.request and self.request.completed:  # there is no body, or the request is rejected already
            self.request.expect_continue = False
        else:
            super().send_continue()

    def handle_write(self) -> None:
        """Send more of the response, then continue with a request that waited for that."""
        lingers = self._rejected and self.close_when_flushed and not self.will_close
        self.close_when_flushed = self.close_when_flushed and not lingers
        super().handle_write()
        if not self.connected:
            return
        if lingers:
            self._linger()
        elif self.blocked and not self.total_outbufs_len:
            self.blocked = False
            self.server.add_task(self)

    def _linger(self) -> None:
        """Once the response is sent, receive and drop what the client is still sending, for a while."""
        if self.total_outbufs_len:
            self.close_when_flushed = True
            return
        self._lingers_until = time.monotonic() + _LINGER_S
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.handle_close()

    def write_soon(self, data: Any) -> int:
        """Send from the thread that answers; the loop sends what the socket doesn't take at once."""
        self._sending = True
        try:
            written: int = super().write_soon(data)
        finally:
            self._sending = False
        if self.total_outbufs_len:
            self.server.pull_trigger()  # wakes the loop to send the rest
        return written

    @property
    def unread(self) -> int:
        """Bytes of responses that the client hasn't read yet, without files, of which there is one copy."""
        if not self.total_outbufs_len:
            return 0
        return sum(len(each) for each in [*self.outbufs] if not isinstance(each, ReadOnlyFileBasedBuffer))

    def writable(self) -> bool:
        """Whether the loop should send."""
        # Not while a thread is sending: the loop would only take CPU time from it.
        thread_sends = self._sending and self.total_outbufs_len < self.adj.outbuf_high_watermark
        return not thread_sends and bool(super().writable())

    def busy(self, late: bool) -> bool:
        """Whether a request is being received or answered; late requests count if `late` is set."""
        requests = [*self.requests, *([self.request] if self.request is not None else [])]
        return bool(self.total_outbufs_len) or any(late or not request.late for request in requests)

    def readable(self) -> bool:
        """Whether the loop should read. The loop calls it in every turn, so it checks the time-outs too."""
        if not self.will_close and (reason := self._overdue(time.monotonic())):
            self.server.metrics.closed.labels(reason).inc()
            if reason == "slow":
                self._give_up(self.request, RequestTimeout("the request wasn't complete in time"))
            else:
                self.will_close = True
        return self._round != self.server.round and not self._unparsed and bool(super().readable())

    def _overdue(self, now: float) -> str:
        """Return why the connection should be closed now; empty: it shouldn't."""
        quiet, patience = now - self.last_activity, self.server.patience
        if self._lingers_until:
            late = now > self._lingers_until or quiet > _LINGER_IDLE_S
            return ("rejected" if self._dropped else "idle") if late else ""
        if self.request is not None and self.request.too_slow(now, patience):
            return "slow"
        waits = bool(self.total_outbufs_len) or not self.requests
        return "idle" if waits and quiet > _IDLE_S * patience else ""

    def waits_for_client(self, now: float) -> bool:
        """Whether the client has to do something first, so that closing the connection costs no work."""
        if self.total_outbufs_len:
            return now - self.last_activity > _STALLED_S
        return not self.requests and not self.close_when_flushed
