"""A web server on loopback for what a test needs to be answered."""

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import SSLContext
from threading import Thread
from typing import Self


class Handler(BaseHTTPRequestHandler):
    """Prints nothing, neither requests nor that a client has hung up."""

    disable_nagle_algorithm = True  # or each answer waits 40 ms for a delayed acknowledgement

    def answer(self, status: int = 200, body: bytes = b"", headers: Mapping[str, str] = {}) -> None:
        """Send a whole response; a Content-Length among the headers replaces the right one."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Has its port at once; answers within its `with`, or from `start` to `stop`."""

    def __init__(self, handler: Callable[..., BaseHTTPRequestHandler], tls: SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server_port}"
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    __enter__, __exit__ = start, stop


class _Files(Handler, SimpleHTTPRequestHandler): ...


def file_server(folder: Path) -> Server:
    """A server of the files in a folder."""
    return Server(partial(_Files, directory=folder))
