"""Receiver of a chunked body (RFC 9112, section 7.1) whose work is proportional to the bytes it gets.

It replaces waitress's receiver, which copies all unparsed bytes for each chunk.
"""

import re
from collections.abc import Callable
from typing import Any, BinaryIO

from waitress.utilities import BadRequest, RequestEntityTooLarge

from app.photos import too_large

_LINE = 256
"""Largest line with a chunk's size, in bytes."""
_TRAILER = 1024
"""Largest line of the trailers, in bytes. Trailers are dropped."""
_FRAMING, _DATA_PER_FRAMING = 2048, 16
"""A body may have 2,048 bytes of lines between its data, and one more for every 16 bytes of data. A client
can send some small chunks, but not a long body of them, which would take far more time than its data."""
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")


class ChunkedReceiver:
    """Decodes a body into a buffer; has the attributes that waitress expects of a receiver.

    Args:
        buf: waitress's buffer for the data.
        max_bytes: largest body, in bytes of data.

    Attributes:
        max_bytes: the same.
        remain: bytes of the current chunk that are still to come.
        completed: whether the end of the body has been received.
        error: why the body is rejected, or None.
    """

    def __init__(self, buf: Any, max_bytes: int) -> None:
        self.buf, self.completed = buf, False
        self.error: BadRequest | None = None
        self.max_bytes = max_bytes
        self._data = self._framing = 0  # bytes so far
        self.remain = 0
        self._line = b""  # start of a line that is incomplete
        self._parse: Callable[[bytes], str] = self._parse_size

    def received(self, data: bytes) -> int:
        """Take bytes from the client; return how many of them belong to this body."""
        position, pieces = 0, []
        while position < len(data) and not self.completed and not self.error:
            if self.remain:
                piece = data[position : position + self.remain]
                pieces.append(piece)
                position += len(piece)
                self.remain -= len(piece)
            else:
                position = self._receive_line(data, position)
        if pieces:
            self.buf.append(b"".join(pieces))  # at once: an append to a file takes several system calls
        return position

    def _receive_line(self, data: bytes, position: int) -> int:
        """Take a line, or the part of it that is there; return the position behind it."""
        limit = (_TRAILER if self._parse == self._parse_trailer else _LINE) - len(self._line)
        end = data.find(b"\n", position, position + limit) + 1
        if not end and len(data) - position >= limit:
            return self._fail(data, "a line between chunks is too long")
        line = self._line + data[position : end or len(data)]
        self._line = b"" if end else line
        if end:
            self._framing += len(line)
            if problem := self._parse(line):
                return self._fail(data, problem)
            if self._framing > _FRAMING + self._data // _DATA_PER_FRAMING:
                return self._fail(data, "the chunks are too small or the trailers too large")
        return end or len(data)

    def _parse_size(self, line: bytes) -> str:
        match = _SIZE.fullmatch(line)
        if not match:
            return "a chunk's size is not valid"
        self.remain = int(match[1], 16)
        self._data += self.remain
        if self._data > self.max_bytes:
            self.error = RequestEntityTooLarge(too_large(self.max_bytes))
        self._parse = self._parse_end if self.remain else self._parse_trailer
        return ""

    def _parse_end(self, line: bytes) -> str:
        self._parse = self._parse_size
        return "" if line == b"\r\n" else "a chunk is longer than its size"

    def _parse_trailer(self, line: bytes) -> str:
        self.completed = line == b"\r\n"
        return "" if line.endswith(b"\r\n") else "a trailer is not valid"

    def _fail(self, data: bytes, problem: str) -> int:
        self.error = BadRequest(f"the chunked body is broken: {problem}")
        return len(data)

    def __len__(self) -> int:
        return len(self.buf)

    def getfile(self) -> BinaryIO:
        """Return the file with the data."""
        file: BinaryIO = self.buf.getfile()
        return file

    def getbuf(self) -> Any:
        """Return the buffer."""
        return self.buf
