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
        options = {"poll_interval": 0.01}
        threading.Thread(target=self._server.serve_forever, kwargs=options, daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def status(self, method: str, path: str, headers: Any, body: bytes) -> int:
        """Carry out a request and return the status of its response."""
        self.seen.append((method, path))
        if headers.get("Authorization") != f"Bearer {self.token}":
            return 401
        if self.failures:
            return self.failures.pop(0)
        if method == "HEAD":
            return 200 if path in self.files else 404
        if headers.get("X-Checksum-Sha256") != hashlib.sha256(body).hexdigest():
            return 409
        self.files[path] = body
        return 201


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets
    artifactory: Artifactory

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        status = self.artifactory.status(self.command, self.path, self.headers, body)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if status == 200:
            content = self.artifactory.files[self.path]
            self.send_header("X-Checksum-Sha256", hashlib.sha256(content).hexdigest())
        self.end_headers()

    do_HEAD = do_PUT = _respond  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass
