"""The app behind its real server, in this process, so that tests can look inside."""

import contextlib
import http.client
import socket
import threading
import warnings
from collections.abc import Callable, Iterator

from flask import Flask

from app.http.server import Server
from app.service import Service, service_of
from tests.helpers.waiting import HANG_S


class Served:
    """A running server.

    Attributes:
        server: the server.
        listener: its listening socket, with the budget of bodies.
        service: the app's parts.
    """

    def __init__(self, app: Flask) -> None:
        self.service: Service = service_of(app)
        settings, admission, metrics = self.service.settings, self.service.admission, self.service.metrics
        with warnings.catch_warnings():  # waitress announces that it will drop `send_bytes` some day
            warnings.simplefilter("ignore", DeprecationWarning)
            self.server = Server(app, settings, admission, metrics)
        self.listener = self.server._listener

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """Connect from an address of loopback; Linux has all of 127.0.0.0/8."""
        address = ("127.0.0.1", self.server.port)
        return socket.create_connection(address, timeout=HANG_S, source_address=(source, 0))

    def ask(
        self, method: str, path: str, body: bytes | None = None, source: str = "127.0.0.1", **headers: str
    ) -> http.client.HTTPResponse:
        """Return the response to a request on a connection of its own; its body is in `content`."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.server.port, timeout=HANG_S, source_address=(source, 0)
        )
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            response.content = response.read()  # type: ignore[attr-defined]
        return response

    def sample(self, name: str, **labels: str) -> float:
        """Return the value of a metric."""
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0


@contextlib.contextmanager
def served(make_app: Callable[..., Flask], **settings: object) -> Iterator[Served]:
    running = Served(make_app(**{"host": "127.0.0.1", "port": 0} | settings))
    thread = threading.Thread(target=running.server.run)
    thread.start()
    try:
        yield running
    finally:
        running.server.stop(0)
        thread.join(HANG_S)
        assert not thread.is_alive()
