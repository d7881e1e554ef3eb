"""A stand-in for Artifactory's generic repositories: deploy, and ask for a file's checksum."""

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any


class Artifactory:
    """The server.

    Attributes:
        files: content by path.
        seen: method and path of each request.
        failures: statuses of the next responses.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self.files: dict[str, bytes] = {}
        self.seen: list[tuple[str, str]] = []
        self.failures: list[int] = []
        handler = type("_Bound", (_Handler,), {"artifactory": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/artifactory"

    @contextlib.contextmanager
    def serving(self) -> Iterator["Artifactory"]:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets
    artifactory: Artifactory

    def do_HEAD(self) -> None:
        self.artifactory.seen.append(("HEAD", self.path))
        if not self._rejected():
            data = self.artifactory.files.get(self.path)
            if data is None:
                self._answer(404, {})
            else:
                self._answer(200, {"X-Checksum-Sha256": hashlib.sha256(data).hexdigest()})

    def do_PUT(self) -> None:
        self.artifactory.seen.append(("PUT", self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self._rejected():
            return
        if self.headers.get("X-Checksum-Sha256", "") not in ("", hashlib.sha256(body).hexdigest()):
            self._answer(409, {})
            return
        self.artifactory.files[self.path] = body
        self._answer(201, {})

    def _rejected(self) -> bool:
        if self.headers.get("Authorization") != f"Bearer {self.artifactory.token}":
            self._answer(401, {})
        elif self.artifactory.failures:
            self._answer(self.artifactory.failures.pop(0), {})
        else:
            return False
        return True

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass
