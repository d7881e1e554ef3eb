"""HTTP/1.1 over asyncio for the scripts that put the service to the test: connections that are used again."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

OVER_LIMIT = 11 * 1024 * 1024
"""Bytes of a body that is refused, with MAX_UPLOAD_MB as it is by default."""
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
        tls: how to encrypt; None: not at all.
        prefix: before each path.
    """

    def __init__(
        self,
        host: str,
        port: int,
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
        prefix: str = "",
    ) -> None:
        self.host, self.port = host, port
        self._key = f"X-API-Key: {key}\r\n" if key else ""
        self._tls, self._prefix = tls, prefix
        self._idle: list[Connection] = []

    @classmethod
    def of(cls, url: str, key: str | None = None) -> "Client":
        """Return a client of the server at an http(s) URL.

        Raises:
            ValueError: it is no such URL, or the key no header; the message is for a person.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        except (ValueError, KeyError):
            parts, port = urlsplit(""), 0
        if not parts.hostname or not parts.path.isprintable() or " " in parts.path:
            raise ValueError("the URL must be http://… or https://…")
        if key and not (key.isascii() and key.isprintable()):
            raise ValueError("the API key can't be sent in a header")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        return cls(parts.hostname, port, key, tls, parts.path.rstrip("/"))

    def head(self, method: str, path: str, kind: str, length: int) -> bytes:
        """Return the first line and the headers of a request."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.port != (443 if self._tls else 80):
            host = f"{host}:{self.port}"
        lines = (
            f"{method} {self._prefix}{path} HTTP/1.1\r\nHost: {host}\r\n{self._key}Content-Type: {kind}\r\n"
        )
        return f"{lines}Content-Length: {length}\r\n\r\n".encode("latin-1")

    def like(self) -> "Client":
        """Return another one for the same server, with no connection yet."""
        other = Client(self.host, self.port, None, self._tls, self._prefix)
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
        return await asyncio.open_connection(self.host, self.port, ssl=self._tls)

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
        if answer.headers.get("connection", "").lower() == "close":
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
    pairs = (line.split(":", 1) for line in lines[1:] if ":" in line)
    headers = {name.lower(): value.strip() for name, value in pairs}
    if headers.get("transfer-encoding", "").lower() == "chunked":  # some proxies send everything so
        body = await _chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    try:
        return Answer(int(lines[0].split()[1]), headers, body)
    except IndexError:
        raise ValueError("no HTTP") from None


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """Return a body that comes in chunks (RFC 9112, section 7.1)."""
    body = b""
    while size := int((await reader.readline()).partition(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()).strip():
        pass  # a trailer
    return body


def form(photos: Sequence[bytes]) -> tuple[bytes, str]:
    """Return body and content type of a form with the photos in fields called `file`."""
    boundary = "boundary-of-a-form"
    head = 'Content-Disposition: form-data; name="file"; filename="photo"'
    parts = b"".join(f"--{boundary}\r\n{head}\r\n\r\n".encode() + photo + b"\r\n" for photo in photos)
    return parts + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
