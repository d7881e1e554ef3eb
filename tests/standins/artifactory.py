"""A stand-in for Artifactory's generic repositories: deploy, and ask for a file's checksum."""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

from tests.helpers.http_server import Handler, Server


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
        self._server = Server(type("_Bound", (_Handler,), {"artifactory": self}))
        self.url = f"{self._server.url}/artifactory"

    @contextlib.contextmanager
    def serving(self) -> Iterator["Artifactory"]:
        with self._server:
            yield self

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


class _Handler(Handler):
    protocol_version = "HTTP/1.1"
    artifactory: Artifactory

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        status = self.artifactory.status(self.command, self.path, self.headers, body)
        headers = {}
        if status == 200:
            content = self.artifactory.files[self.path]
            headers["X-Checksum-Sha256"] = hashlib.sha256(content).hexdigest()
        self.answer(status, headers=headers)

    do_HEAD = do_PUT = _respond  # noqa: N815
