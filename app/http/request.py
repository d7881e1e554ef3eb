"""A request while it is received, and then complete."""

import logging
import re
import time
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from werkzeug.exceptions import BadRequest, HTTPException

from app.http.admission import RejectedError
from app.http.body_budget import BodyBudget, RequestBody
from app.http.chunked import ChunkedReceiver
from app.http.first_line import find_problem
from app.http.gate import PREDICTIONS, keyed_route

MAX_HEADER_BYTES = 16 * 1024
"""Largest header of a request."""
_MAX_HEADER_LINES = 100
"""Most lines of a header. A parsed line takes much more memory than the line itself."""
_HEADERS_S, _REQUEST_S = 15, 120
"""Seconds that a client has to send the header, and to send the whole request."""

# On a line that they don't match, waitress's own patterns take time that grows with the square of its length.
# Waitress gets only lines that match these patterns and those of first_line.py; they take linear time.
# RFC 9112, section 5.
_HEADER_LINES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*(?:\r\n)?")
_TRANSFER_ENCODING = re.compile(rb"^transfer-encoding:[ \t]*([^\r]*?)[ \t]*\r$", re.IGNORECASE | re.MULTILINE)
_HOST = re.compile(rb"^host:", re.IGNORECASE | re.MULTILINE)
_log = logging.getLogger(__name__)
_BARE_LF = re.compile(rb"(?<!\r)\n")


class Request(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """A request, whose body counts for the budget of bytes until the request is closed.

    Attributes:
        late: whether it began during a drain.
        completed_at: when it was complete and the responses before it were read, by `time.perf_counter`; 0:
            not yet.
        rejection: why it is not predicted, if it is a prediction; see `app.http`.
        fetched: the photo at the URL in its body, or why there is none; None if the body has no URL.
        error: why it is answered without the app: an HTTPException, or an error that waitress found.
        client: whose request it is, see `Gate.client`; None until the header is complete.
        body: the body's bytes as the budget counts them; None if there is no body, or if it is closed.
    """

    late = False
    completed_at = 0.0
    rejection: RejectedError | None = None
    fetched: bytes | HTTPException | None = None
    error: Any
    body_rcv: Any
    header_plus: bytes
    client: object = None
    body: RequestBody | None = None
    command = path = ""  # until they are parsed, and if they can't be
    _has_first_line = False

    def __init__(self, adj: Any, budget: BodyBudget) -> None:
        super().__init__(adj)
        self._budget = budget
        self._began = time.monotonic()

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the header; raises ParsingError, which becomes a response."""
        lines = header_plus.partition(b"\r\n")[2]
        if lines.count(b"\r\n") > _MAX_HEADER_LINES:
            raise ParsingError(f"the header has more than {_MAX_HEADER_LINES} lines")
        if not _HEADER_LINES.fullmatch(lines):
            raise ParsingError("a line of the header is not valid")
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # from urlsplit or int; waitress would hang up without a response
            raise ParsingError("the request's target or length can't be parsed") from error
        if len(_HOST.findall(lines)) > 1:  # RFC 9112, section 3.2: another server may read another one
            raise ParsingError("the header has more than one line with Host")
        # RFC 9112, sections 6.1 and 6.3: another server may see another end of such a request's body.
        encodings = _TRANSFER_ENCODING.findall(lines)
        exact = self.version == "1.1" and [one.lower() for one in encodings] == [b"chunked"]
        if encodings and (not exact or "CONTENT_LENGTH" in self.headers):
            raise ParsingError("Transfer-Encoding must be 'chunked', in HTTP/1.1 and without Content-Length")
        if self.chunked:
            self.body_rcv = ChunkedReceiver(self.body_rcv.getbuf(), max_bytes=0)
        # The path is empty in `GET http://host`; werkzeug would redirect, with an HTML page.
        self.path = self.path or "/"

    def received(self, data: bytes) -> int:
        """Take bytes from the client, and count those of the body; return how many belong to this request."""
        if not self._has_first_line:
            start = self.header_plus + data
            if problem := find_problem(start):
                self.reject(problem)
                return len(data)
            self._has_first_line = b"\r\n" in start
        before = b"\r" if self.header_plus.endswith(b"\r") else b""
        try:
            consumed: int = super().received(data)
        except OSError as error:  # a large body goes to a file
            _log.warning("a request's body can't be written to the temporary folder: %s", error.strerror)
            self.reject(RejectedError("no_resources", "the service has no room for the request's body"))
            return len(data)
        if self.headers_finished:
            self.header_plus = b""  # the parsed header is enough
        elif not self.error and _BARE_LF.search(before + data):  # waitress would wait for CR LF
            self.reject(BadRequest("a line of the header doesn't end with CR LF"))
        if self.body:
            fits = self._budget.grow(self.body, len(self.body_rcv) - self.body.held)
            if self.error:
                self.close()
            elif not fits:
                self.reject(uploads_rejected())
            elif self.completed:
                self._budget.finish(self.body)
        return consumed

    def receive_body(self, body: RequestBody, max_bytes: int) -> None:
        """Count a body from now on, and limit it if it is chunked and so has announced no length."""
        self.body = body
        if self.chunked:
            self.body_rcv.max_bytes = max_bytes

    @property
    def body_remain(self) -> int:
        """Bytes that certainly still belong to the body; 0 before the header is complete."""
        return 0 if self.body_rcv is None or self.completed else self.body_rcv.remain

    def reject(self, error: HTTPException) -> None:
        """Have the request answered with an error at once; the rest of its body is not wanted."""
        self.error, self.completed, self.expect_continue = error, True, False
        self.close()

    def close(self) -> None:
        """Delete the body; it may be closed more than once."""
        super().close()
        if self.body:
            self._budget.close(self.body)
            self.body = None

    def mark_late(self) -> None:
        """Note that the request began during a drain."""
        self.late, self.rejection = True, RejectedError("draining", "the service is stopping")

    @property
    def route(self) -> str:
        """The path as the app sees it: waitress strips slashes in the same way for WSGI."""
        return "/" + self.path.lstrip("/")

    @property
    def predicts(self) -> bool:
        """Whether this is a prediction that a worker answers."""
        return not self.error and self.command == "POST" and keyed_route(self.route) in PREDICTIONS

    def too_slow(self, now: float, patience: float) -> bool:
        """Whether the client should have sent more of it by now.

        Args:
            now: by `time.monotonic`.
            patience: share of the usual time that a client has.
        """
        return bool(now - self._began > patience * (_REQUEST_S if self.headers_finished else _HEADERS_S))


def uploads_rejected() -> RejectedError:
    """Return the reason for which an upload is shed."""
    return RejectedError("uploads", "the uploads in progress take all the memory that they may")
