"""Clients that misbehave: slow, silent, or gone before the response. They use a socket of their own."""

import contextlib
import http.client
import random
import socket
import ssl
import struct
import time
from urllib.parse import urlsplit

from scripts.stress.client import TIMEOUT_S, Client

_PAUSE_S = 0.1
"""Between two pieces of a request that is sent slowly."""


class RudeClient:
    """Requests that a well-behaved library cannot send; `chance` decides how they are cut and delayed."""

    def __init__(self, client: Client, chance: random.Random) -> None:
        self._client, self._chance = client, chance
        self._url = urlsplit(client.url)

    def announce(self, length: int) -> http.client.HTTPResponse:
        """Send only the header of a photo of `length` bytes; return the response."""
        return self._send_slowly([self._header(length)])

    def trickle(self, photo: bytes) -> http.client.HTTPResponse:
        """Send a photo in 5 to 30 pieces, with pauses; return the response."""
        header, size = self._header(len(photo)), len(photo) // self._chance.randint(5, 30)
        pieces = [photo[at : at + size] for at in range(0, len(photo), size)]
        return self._send_slowly([header[:20], header[20:], *pieces])

    def _send_slowly(self, pieces: list[bytes]) -> http.client.HTTPResponse:
        with self._connect() as connection:
            with contextlib.suppress(ConnectionError):  # the service may answer early and hang up
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(_PAUSE_S)
            response = http.client.HTTPResponse(connection)
            response.begin()
            response.read()
            return response

    def hang_up(self, photo: bytes, sent_bytes: int) -> None:
        """Close the connection after a part of a photo, in half of the cases by a reset."""
        with self._connect() as connection:
            connection.sendall(self._header(len(photo)) + photo[:sent_bytes])
            time.sleep(self._chance.choice((0, 0.01, 0.1)))
            if self._chance.random() < 0.5:
                # SO_LINGER of 0 s: close() resets the connection (socket(7)).
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def stay_silent(self, seconds: float) -> None:
        """Connect and send nothing."""
        with self._connect():
            time.sleep(seconds)

    def _connect(self) -> socket.socket:
        host = self._url.hostname or ""
        secure = self._url.scheme == "https"
        connection = socket.create_connection((host, self._url.port or (443 if secure else 80)), TIMEOUT_S)
        if secure:
            return ssl.create_default_context().wrap_socket(connection, server_hostname=host)
        return connection

    def _header(self, length: int) -> bytes:
        lines = [f"POST {self._client.prefix}/predict HTTP/1.1", f"Host: {self._url.netloc}"]
        headers = self._client.headers | {"Content-Type": "image/jpeg", "Content-Length": str(length)}
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()
