"""What the stand-ins of providers share: JSON over real HTTP, a token, and faults on demand."""

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.helpers.http_server import Handler, Server
from tests.standins.instances import Front


@dataclass
class Fault:
    """How one matching request goes wrong."""

    method: str
    path: str  # a regular expression
    status: int = 0  # 0: the connection is dropped
    headers: dict[str, str] = field(default_factory=dict)
    carried_out: bool = False  # whether the request takes effect all the same
    message: str = "An unexpected server error has occurred."


@dataclass
class Answer:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    method: str
    path: str
    query: list[tuple[str, str]]
    body: Any


class Provider:
    """An API on loopback. Subclasses implement `answer`, which is called with the lock held."""

    prefix = ""  # of every path

    def __init__(self, token: str) -> None:
        self.token = token
        self.faults: list[Fault] = []
        self.seen: list[Request] = []
        self.lock = threading.RLock()
        self.gate = threading.Event()  # while it is not set, nothing that was begun continues
        self.gate.set()
        self.front = Front()  # of the version that serves
        self._server = Server(type("_Bound", (_Handler,), {"provider": self}))
        self.url = self._server.url + self.prefix

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    def error(self, status: int, message: str) -> Answer:
        """Return an error in the provider's format."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop everything that was started."""
        self.front.close()

    def count(self, method: str, path: str) -> int:
        return sum(r.method == method and bool(re.fullmatch(path, r.path)) for r in self.seen)

    @contextlib.contextmanager
    def serving(self) -> Iterator[Any]:
        with contextlib.closing(self), self._server:
            yield self

    def respond(self, request: Request, authorization: str) -> Answer | None:
        """Return the answer, or None to drop the connection."""
        with self.lock:
            self.seen.append(request)
            fault = next((f for f in self.faults if _matches(f, request)), None)
            if fault:
                self.faults.remove(fault)
                if fault.carried_out:
                    self.answer(request)
                if not fault.status:
                    return None
                body = None if fault.status < 300 else self.error(fault.status, fault.message).body
                return Answer(fault.status, body, fault.headers)
            if authorization != f"Bearer {self.token}":
                return self.error(401, "Authorization information is missing or invalid.")
            return self.answer(request)


def now() -> str:
    """Return the time as APIs print it, fine enough to be unique."""
    seconds, rest = divmod(time.time_ns(), 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:09}Z"


def _matches(fault: Fault, request: Request) -> bool:
    return fault.method == request.method and re.fullmatch(fault.path, request.path) is not None


class _Handler(Handler):
    protocol_version = "HTTP/1.1"
    provider: Provider

    def _respond(self) -> None:
        url = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path = url.path.removeprefix(self.provider.prefix)
        request = Request(self.command, path, parse_qsl(url.query), json.loads(content or "null"))
        answer = self.provider.respond(request, self.headers.get("Authorization", ""))
        if answer is None:
            self.close_connection = True
            return
        body = b"" if answer.body is None else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _respond  # noqa: N815
