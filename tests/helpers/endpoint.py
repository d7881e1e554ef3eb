"""A stand-in for the service on loopback that notes what it is sent and answers as it is told."""

import contextlib
import json
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.helpers.http_server import Handler, Server

PREDICTION = {
    "label": "cat",
    "probabilities": {"cat": 0.9, "dog": 0.1},
    "model": {"version": "v1", "arch": "simple_cnn"},
    "request_id": "r1",
}


@dataclass(frozen=True)
class Sent:
    """A request; names of its headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """An answer; status 0 hangs up instead."""

    status: int = 200
    content: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False


@contextlib.contextmanager
def endpoint(
    reply: Callable[[Sent], Reply], tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[Sent]]]:
    """Serve; yield the URL and what has been sent so far."""
    seen: list[Sent] = []

    class Replying(Handler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            sent = Sent(self.path, headers, self.rfile.read(length))
            seen.append(sent)
            told = reply(sent)
            if not told.status:
                self.close_connection = True
                return
            body = told.content if isinstance(told.content, bytes) else json.dumps(told.content).encode()
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            if told.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                body = b"".join(
                    b"%x;x=y\r\n%b\r\n" % (len(part), part) for part in (body[:3], body[3:]) if part
                )
                body += b"0\r\nTrailer: x\r\n\r\n"
            elif told.status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if told.status == 204 else body)

        def do_POST(self) -> None:
            self.do_GET()

    with Server(Replying, tls) as server:
        yield server.url, seen
