"""waitress, with an end: a server that any thread or signal handler can stop."""

import socket
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask

from app import problems
from app.settings import Settings

_THREADS = 8
_SWALLOW = 4
"""Up to this many times MAX_UPLOAD_MB a body is read to its end: a client that is still sending when the
connection closes loses the 413. Beyond it the connection is cut."""


class Server:
    """Listens from the moment it is made; answers while `run` runs."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        """Bind the port.

        Raises:
            OSError: the address can't be listened on.
        """
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address, family=family)
        self.port: int = listener.getsockname()[1]
        self._map: dict[int, Any] = {}
        self._server = create_server(
            app,
            map=self._map,
            sockets=[listener],
            threads=_THREADS,
            ident=None,
            clear_untrusted_proxy_headers=True,
            max_request_body_size=_SWALLOW * settings.max_upload_bytes + 1,
            asyncore_use_poll=True,
        )
        self._server.channel_class = _Channel
        self._exit_code: int | None = None

    def run(self) -> int:
        """Answer requests until `stop`; return its exit code."""
        while self._exit_code is None:
            wasyncore.loop(timeout=1.0, use_poll=True, map=self._map, count=1)
        self._server.task_dispatcher.shutdown()  # waits up to 5 s for requests in work
        wasyncore.loop(timeout=0.0, use_poll=True, map=self._map, count=1)  # sends their answers
        wasyncore.close_all(self._map)
        return self._exit_code

    def stop(self, exit_code: int) -> None:
        """Make `run` return. Safe from other threads and from signal handlers; the first call counts."""
        if self._exit_code is None:
            self._exit_code = exit_code
            self._server.pull_trigger()


class _ProblemTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """What waitress itself refuses (bad syntax, huge headers or bodies), answered like every other error."""

    def execute(self) -> None:
        status = HTTPStatus(self.request.error.code)
        request_id = uuid.uuid4().hex
        body = problems.body(status.phrase, status, self.request.error.body, request_id)
        self.status = f"{status.value} {status.phrase}"
        self.response_headers += [("Content-Type", problems.CONTENT_TYPE), ("X-Request-ID", request_id)]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    error_task_class: Callable[..., Any] = _ProblemTask
