"""The body of a response, whose reads end by a deadline whatever the server sends."""

import contextlib
import math
import socket
import threading
import time

import requests
import urllib3

from ml.model.http import UnreachableError

_CHUNK_BYTES = 1 << 16
_POLL_S = 0.1  # how late a deadline may be noticed


class ResponseBody:
    """Reads the body of a response, and closes the response at the end of the `with` block.

    A socket's timeout limits only the time between two bytes. `http.client` reads the line before a chunk,
    and the trailers after the last one, until they end. So a thread shuts the connection down at the
    deadline.
    """

    def __init__(self, response: requests.Response) -> None:
        self._response = response
        self._deadline = math.inf
        self._broken = False
        self._closed = threading.Event()

    def __enter__(self) -> "ResponseBody":
        """Start the thread."""
        threading.Thread(target=self._watch, name="deadline", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the response."""
        self._closed.set()
        self._response.close()

    def read(self, deadline: float) -> bytes:
        """Return the next bytes, or nothing at the end of the body.

        It returns what has arrived without waiting for more, so that the caller notices a slow server.

        Args:
            deadline: when to give up, by `time.monotonic`.

        Raises:
            UnreachableError: the connection broke, or nothing arrived in time.
        """
        self._deadline = deadline
        try:
            piece: bytes = self._response.raw.read1(_CHUNK_BYTES, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError):
            self._broken = True
            piece = b""
        finally:
            self._deadline = math.inf
        if self._broken:
            raise UnreachableError("the connection broke, or nothing arrived in time")
        return piece

    def _watch(self) -> None:
        while not self._closed.wait(_POLL_S):
            if time.monotonic() > self._deadline:
                self._broken = True
                # urllib3's own shutdown() leaves the connection open for a server that sends without pause.
                if shutdown := self._response.raw._sock_shutdown:
                    with contextlib.suppress(OSError):
                        shutdown(socket.SHUT_RDWR)
                return
