"""A web server for models on loopback that, request by request, behaves as badly as it is told."""

import contextlib
import dataclasses
import hashlib
import io
import random
import ssl
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.model_source import source as model_source
from app.model_source.source import ModelFile
from app.settings import Settings
from ml.model.download import Policy
from ml.model.http import Timeouts
from tests.helpers.http_server import Handler, Server
from tests.helpers.waiting import HANG_S

PIECE = 1 << 16

FAST = Policy(
    attempts=3,
    backoff_s=0.001,
    retry_after_max_s=0.3,
    slow_s=HANG_S,
    total_s=HANG_S,
    timeouts=Timeouts(connect_s=HANG_S, read_s=HANG_S, answer_s=HANG_S),
)
"""Short pauses between attempts; no attempt is given up for its slowness."""


def impatient(**seconds: float) -> Policy:
    """FAST with another `read_s`, `answer_s` or `connect_s`."""
    return dataclasses.replace(FAST, timeouts=dataclasses.replace(FAST.timeouts, **seconds))


def archive(seed: int, size: int = 400_000) -> bytes:
    """A ZIP, as every model file is one, of exactly this size."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(zipfile.ZipInfo("x"), random.Random(seed).randbytes(size - 100))
    return buffer.getvalue()


SIZE = 400_000
MODEL, OTHER = archive(1), archive(2)


@dataclass
class Answer:
    """How one request is answered: with the path's file as it should be, but for what is set here."""

    status: int | None = None  # nothing but this status
    headers: dict[str, str | None] = field(default_factory=dict)  # set over the right ones; None: left out
    ranges: bool = True  # False: Range is ignored
    if_range: bool = True  # False: If-Range is ignored, so that a 206 may be of another file
    stop: int | None = None  # the connection ends after so many bytes of the body
    stall: int | None = None  # after so many bytes nothing comes until the gate opens
    trickle: float | None = None  # a pause between two pieces of 100 bytes, in seconds
    slow_header: bool = False  # the header comes byte by byte, without end
    chunked: bool = False  # where all of it is sent
    endless: tuple[bytes, bytes, float] | None = None  # chunks: the first bytes, those that recur, a pause
    before: Callable[[], None] = lambda: None  # called first


def redirect(location: str, status: int = 302) -> Answer:
    return Answer(status, {"Location": location})


@dataclass
class Request:
    path: str  # with the query
    headers: dict[str, str]  # names in lower case
    sent: int = 0  # bytes of the body


class ModelServer:
    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: dict[str, list[Answer]] = {}  # of a path; the last one stays
        self.seen: list[Request] = []
        self.gate = threading.Event()
        self._server = _Server(type("_Bound", (_Handler,), {"model_server": self}), tls)
        self.port, self.url = self._server.server_port, self._server.url

    def paths(self) -> list[str]:
        return [request.path for request in self.seen]

    def requests(self, path: str = "/model.pt") -> list[Request]:
        return [request for request in self.seen if request.path.partition("?")[0] == path]

    def sent(self, path: str = "/model.pt") -> int:
        return sum(request.sent for request in self.requests(path))

    @contextlib.contextmanager
    def serving(self) -> Iterator["ModelServer"]:
        with self._server:
            try:
                yield self
            finally:
                self.gate.set()


def get(
    server: ModelServer,
    cache: Path,
    path: str = "/model.pt",
    policy: Policy | None = FAST,
    failed: Callable[[], None] = lambda: None,
    **others: Any,
) -> ModelFile:
    settings = Settings(model_url=server.url + path, model_cache_dir=cache, **others)
    return model_source.fetch(settings, policy=policy, failed=failed)


def etag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:8]}"'


class _Server(Server):
    def handle_error(self, *_: Any) -> None:
        """Say nothing: clients that hang up are what is tested."""


class _Handler(Handler):
    protocol_version = "HTTP/1.1"
    model_server: ModelServer

    def do_GET(self) -> None:
        server, path = self.model_server, self.path.partition("?")[0]
        self.close_connection = True
        self.request_seen = Request(self.path, {name.lower(): value for name, value in self.headers.items()})
        server.seen.append(self.request_seen)
        answers = server.answers.get(path) or [Answer()]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        answer.before()
        if answer.slow_header:
            self._trickle_header()
        elif answer.endless is not None:
            self._endless(*answer.endless)
        elif answer.status is not None:
            self._send(answer.status, {"Content-Length": "0"}, answer)
        elif path in server.files:
            self._file(server.files[path], answer)
        else:
            self._send(404, {"Content-Length": "0"}, answer)

    def _file(self, body: bytes, answer: Answer) -> None:
        asked = self.request_seen.headers
        headers: dict[str, str | None] = {"ETag": etag(body)} | answer.headers
        if "if-none-match" in asked:
            unchanged = asked["if-none-match"] == headers["ETag"]
        else:
            unchanged = asked.get("if-modified-since", "") == headers.get("Last-Modified")
        if unchanged:
            self._send(304, {}, answer)
            return
        start = int(asked.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        same = asked.get("if-range") in (headers["ETag"], headers.get("Last-Modified"))
        if start >= len(body) and answer.ranges:
            self._send(416, {"Content-Length": "0"}, answer)
        elif start and answer.ranges and (same or not answer.if_range):
            rest = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            self._send(206, {"ETag": etag(body), "Content-Length": str(len(body) - start)} | rest, answer)
            self._body(memoryview(body)[start:], dataclasses.replace(answer, chunked=False))
        elif answer.chunked:
            self._send(200, {"ETag": etag(body), "Transfer-Encoding": "chunked"}, answer)
            self._body(memoryview(body), answer)
        else:
            self._send(200, {"ETag": etag(body), "Content-Length": str(len(body))}, answer)
            self._body(memoryview(body), answer)

    def _send(self, status: int, headers: dict[str, str], answer: Answer) -> None:
        self.send_response(status)
        for name, value in (headers | answer.headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def _body(self, body: memoryview, answer: Answer) -> None:
        size = PIECE if answer.trickle is None else 100
        stop = len(body) if answer.stop is None else answer.stop
        position = 0
        while position < stop:
            if answer.stall is not None and position >= answer.stall:
                self.model_server.gate.wait(HANG_S)
            elif answer.trickle is not None:
                time.sleep(answer.trickle)
            end = min(position + size, stop)
            if answer.stall is not None and position < answer.stall:
                end = min(end, answer.stall)
            if answer.chunked:
                self.wfile.write(b"%x\r\n%b\r\n" % (end - position, body[position:end]))
            else:
                self.wfile.write(body[position:end])
            self.request_seen.sent += end - position
            position = end
        if answer.chunked and answer.stop is None:
            self.wfile.write(b"0\r\n\r\n")

    def _trickle_header(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Filler: ")
        while not self.model_server.gate.wait(0.02):
            self.wfile.write(b"x")

    def _endless(self, first: bytes, again: bytes, pause: float) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + first)
        while not self.model_server.gate.wait(pause):
            self.wfile.write(again)
