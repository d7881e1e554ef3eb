"""A request while it is received, and then complete."""

import re
import time
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from werkzeug.exceptions import HTTPException

from app.http.admission import RejectedError
from app.http.body_budget import Body, BodyBudget
from app.http.chunked import ChunkedReceiver
from app.http.gate import PREDICT

MAX_HEADER_BYTES = 16 * 1024
"""Largest header of a request."""
_MAX_HEADER_LINES = 100
"""Most lines of a header. A parsed line takes much more memory than the line itself."""
_HEADERS_S, _REQUEST_S = 15, 120
"""Seconds that a client has to send the header, and to send the whole request."""

# On a line that they don't match, waitress's own patterns take time that grows with the square of its length.
# Waitress gets only lines that match these patterns; they take linear time. RFC 9112, sections 3 and 5.
_FIRST_LINE = re.compile(rb"[!-~]+ [^ ]+(?: HTTP/[0-9]\.[0-9])?")
_HEADER_LINES = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*(?:\r\n)?")


class Request(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """A request, whose body counts for the budget of bytes until the request is closed.

    Attributes:
        late: whether it began during a drain.
        completed_at: when it was complete and the responses before it were read, by `time.perf_counter`; 0:
            not yet.
        rejection: why it is not predicted, if it is a prediction; see `app.http`.
        error: why it is answered without the app: an HTTPException, or an error that waitress found.
        client: whose request it is, see `Gate.client`; None until the header is complete.
        body: what counts for the budget; None if there is no body, or if it is closed.
    """

    late = False
    completed_at = 0.0
    rejection: RejectedError | None = None
    error: Any
    body_rcv: Any
    client: object = None
    body: Body | None = None
    command = path = ""  # until they are parsed, and if they can't be

    def __init__(self, adj: Any, budget: BodyBudget, max_body_bytes: int) -> None:
        super().__init__(adj)
        self._budget, self._max_body_bytes = budget, max_body_bytes
        self._began = time.monotonic()

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the header; raises ParsingError, which becomes a response."""
        first_line, _, lines = header_plus.partition(b"\r\n")
        if not _FIRST_LINE.fullmatch(first_line.rstrip()):
            raise ParsingError("the first line is not valid")
        if lines.count(b"\r\n") > _MAX_HEADER_LINES:
            raise ParsingError(f"the header has more than {_MAX_HEADER_LINES} lines")
        if not _HEADER_LINES.fullmatch(lines):
            raise ParsingError("a line of the header is not valid")
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # from urlsplit or int; waitress would hang up without a response
            raise ParsingError("the request's target or length can't be parsed") from error
        if self.chunked:
            self.body_rcv = ChunkedReceiver(self.body_rcv.getbuf(), self._max_body_bytes)
        # The path is empty in `GET http://host`; werkzeug would redirect, with an HTML page.
        self.path = self.path or "/"

    def received(self, data: bytes) -> int:
        """Take bytes from the client, and count those of the body; return how many belong to this request."""
        consumed: int = super().received(data)
        if self.body:
            fits = self._budget.grow(self.body, len(self.body_rcv) - self.body.held)
            if self.error:
                self.close()
            elif not fits:
                self.reject(uploads_rejected())
            elif self.completed:
                self._budget.finish(self.body)
        return consumed

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
        return not self.error and self.command == "POST" and self.route == PREDICT

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
