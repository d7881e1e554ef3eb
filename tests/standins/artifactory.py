"""A stand-in of Artifactory's generic deploys: by checksum where the content is known, else by body."""

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any


class Artifactory:
    """Paths to contents, and what was asked."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.files: dict[str, bytes] = {}
        self.seen: list[tuple[str, str, bool]] = []  # method, path, whether with a body
        self.failures: list[int] = []  # statuses of the next answers
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
        there = self.artifactory
        there.seen.append(("HEAD", self.path, False))
        if not self._refused():
            data = there.files.get(self.path)
            sha256 = hashlib.sha256(data).hexdigest() if data is not None else ""
            self._answer(404 if data is None else 200, {"X-Checksum-Sha256": sha256} if sha256 else {})

    def do_PUT(self) -> None:
        there = self.artifactory
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        by_checksum = self.headers.get("X-Checksum-Deploy") == "true"
        there.seen.append(("PUT", self.path, not by_checksum))
        if self._refused():
            return
        sha256 = self.headers.get("X-Checksum-Sha256", "")
        if by_checksum:
            known = {hashlib.sha256(data).hexdigest(): data for data in there.files.values()}
            if sha256 not in known:
                self._answer(404, {})
                return
            body = known[sha256]
        elif sha256 and hashlib.sha256(body).hexdigest() != sha256:
            self._answer(409, {})
            return
        there.files[self.path] = body
        self._answer(201, {})

    def _refused(self) -> bool:
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
