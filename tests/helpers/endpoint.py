"""A stand-in for the service on loopback that notes what it is sent and answers as it is told."""

import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

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

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms for a delayed acknowledgement

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

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()
