"""HTTP client of the scripts that put the service under load; it never retries."""

from collections.abc import Sequence
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import urllib3

from scripts.common.web import RequestError, checked_url, key_header

OVER_LIMIT_BYTES = 11 << 20
"""Size of a body that the service rejects if MAX_UPLOAD_MB has its default."""
TIMEOUT_S = 60
BROKEN = (OSError, HTTPException, urllib3.exceptions.HTTPError)
"""Errors of a connection that broke, timed out, or carried something other than HTTP."""

_CONNECTIONS = 5000
"""Connections that are kept open between requests at most."""


class Client:
    """Sends requests to one service from any number of threads, and reuses its connections.

    If API_KEY is set, it is sent as X-API-Key.

    Args:
        url: http(s) URL of the service's root.

    Raises:
        RequestError: the URL or the key is not valid.
    """

    def __init__(self, url: str) -> None:
        self.url, self.headers = checked_url(url), key_header()
        self.prefix = urlsplit(self.url).path
        options: dict[str, Any] = {"maxsize": _CONNECTIONS, "retries": False, "timeout": TIMEOUT_S}
        try:
            self._pool = urllib3.connection_from_url(self.url, **options)
        except urllib3.exceptions.LocationParseError:
            raise RequestError("the host of the URL is not valid") from None

    def send(
        self, method: str, path: str, body: bytes | None = None, media_type: str = "image/jpeg"
    ) -> urllib3.BaseHTTPResponse:
        """Send one request and return the response with its body.

        Raises:
            BROKEN: no complete HTTP response arrived.
        """
        headers = self.headers | {"Content-Type": media_type}
        return self._pool.request(method, self.prefix + path, body=body, headers=headers, redirect=False)

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()


def form(photos: Sequence[bytes]) -> tuple[bytes, str]:
    """Return the body and content type of a form with each photo in a field named `file`."""
    fields = [("file", ("photo", photo)) for photo in photos]
    return urllib3.encode_multipart_formdata(fields, "boundary-of-a-form")
