"""HTTP/1.1 over asyncio for the scripts that put the service to the test: connections that are used again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
BROKEN = (OSError, EOFError, ValueError, TimeoutError)
"""What an exchange raises where a connection breaks or what comes is no HTTP."""


@dataclass(frozen=True)
class Answer:
    """What came back; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """Sends requests to one server, each over a connection that is free, else over a new one.

    Args:
        host: name or address of the server.
        port: its port.
        key: sent as X-API-Key.
    """

    def __init__(self, host: str, port: int, key: str | None = None) -> None:
        self.host, self.port = host, port
        self._key = f"X-API-Key: {key}\r\n" if key else ""
        self._idle: list[Connection] = []

    def head(self, method: str, path: str, kind: str, length: int) -> bytes:
        """Return the first line and the headers of a request."""
        lines = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n{self._key}Content-Type: {kind}\r\n"
        return f"{lines}Content-Length: {length}\r\n\r\n".encode("latin-1")

    def like(self) -> "Client":
        """Return another one for the same server, with no connection yet."""
        other = Client(self.host, self.port)
        other._key = self._key
        return other

    def _free(self) -> Connection | None:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()  # the server has closed it for being idle
        return None

    async def connect(self) -> Connection:
        """Return a connection that is nobody else's."""
        return await asyncio.open_connection(self.host, self.port)

    async def exchange(self, method: str, path: str, body: bytes = b"", kind: str = "image/jpeg") -> Answer:
        """Send one request and return its answer.

        Raises:
            OSError, EOFError, ValueError: the connection broke, or what came is no HTTP.
        """
        connection = self._free() or await self.connect()
        reader, writer = connection
        try:
            writer.write(self.head(method, path, kind, len(body)) + body)
            answer = await read_answer(reader)
        except BaseException:
            writer.close()
            raise
        if answer.headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Close the connections that are free."""
        while self._idle:
            self._idle.pop()[1].close()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Return the answer that comes next."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines[1:] if ": " in line)
    headers = {name.lower(): value for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(lines[0].split()[1]), headers, body)


def form(photos: Sequence[bytes]) -> tuple[bytes, str]:
    """Return body and content type of a form with the photos in fields called `file`."""
    boundary = "boundary-of-a-form"
    head = 'Content-Disposition: form-data; name="file"; filename="photo"'
    parts = b"".join(f"--{boundary}\r\n{head}\r\n\r\n".encode() + photo + b"\r\n" for photo in photos)
    return parts + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
