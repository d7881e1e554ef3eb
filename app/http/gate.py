"""What is decided about a request when its header ends, before its body is received."""

import math
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Network
from typing import Any

from werkzeug.exceptions import RequestEntityTooLarge, TooManyRequests, Unauthorized

from app.http import addresses
from app.http.keys import sent_key
from app.http.rate_limit import RateLimit
from app.photos import too_large
from app.settings import Settings

PREDICT, FEEDBACK = "/predict", "/feedback"
INFER = "/v2/models/<model>/infer"
INFER_VERSION = "/v2/models/<model>/versions/<version>/infer"
PREDICTIONS = frozenset({PREDICT, INFER, INFER_VERSION})
"""Routes whose POST requests are predictions, with photos in their bodies."""

_INFER_PATH = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?/infer")

SMALL_BODY_BYTES = 4096
"""Largest body of a request that doesn't upload photos. Only /feedback needs a body; others may have one."""

_FAILED_PER_S, _FAILED_BURST = 1.0, 30
"""Requests without a valid key that a client address gets 401 for; the others get 429."""
_FEEDBACK_PER_S, _FEEDBACK_BURST = 20.0, 1000
"""Feedback that is taken from one client: one key, or one address if there are no keys."""


def keyed_route(path: str) -> str | None:
    """Return the route of a path, as Flask writes it, if its POST requests need an API key; else None."""
    if path in (PREDICT, FEEDBACK):
        return path
    match = _INFER_PATH.fullmatch(path)
    return match and (INFER_VERSION if match[1] else INFER)


class Gate:
    """Checks the key, the rate and the length of requests. Only the event loop's thread calls `check`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._failed = RateLimit(_FAILED_PER_S, _FAILED_BURST)
        self._feedback = RateLimit(_FEEDBACK_PER_S, _FEEDBACK_BURST)

    def client(self, peer: str, headers: dict[str, str]) -> IPv4Address | IPv6Network:
        """Return what counts as the client of a request: its address, or the /64 network of that.

        Args:
            peer: address of the other end of the connection.
            headers: as waitress keeps them, `X_FORWARDED_FOR` for X-Forwarded-For.
        """
        trusted = self._settings.trusted_proxies
        if not trusted:
            return addresses.peer_group(peer)
        forwarded_for = headers.get("X_FORWARDED_FOR", "")
        return addresses.group(addresses.client_address(peer, forwarded_for, trusted))

    def scheme(self, peer: str, headers: dict[str, str]) -> str:
        """Return the scheme of the address at which the client reached the service, or its proxy."""
        trusted = self._settings.trusted_proxies
        forwarded = headers.get("X_FORWARDED_PROTO") == "https"
        return "https" if forwarded and addresses.is_in(peer, trusted) else "http"

    def check(self, request: Any, path: str) -> int:
        """Let a request pass; return how many bytes its body may have.

        Args:
            request: a `Request` whose header is complete, with its `client`.
            path: its path, as WSGI will see it.

        Raises:
            Unauthorized: it needs an API key and has none that is valid.
            TooManyRequests: the client sent too many requests without a valid key, or too much feedback.
            RequestEntityTooLarge: its body is larger than that.
        """
        route = keyed_route(path) if request.command == "POST" else None
        if route:
            key = self._require_key(request)
            if route == FEEDBACK:
                self._limit(self._feedback, key or request.client, "too much feedback")
        limit = self._settings.max_upload_bytes if route in PREDICTIONS else SMALL_BODY_BYTES
        if request.content_length > limit:
            raise RequestEntityTooLarge(too_large(limit))
        return limit

    def _require_key(self, request: Any) -> str:
        if not self._settings.api_keys:
            return ""
        header: Callable[[str, str], str] = request.headers.get
        try:
            return sent_key(header("AUTHORIZATION", ""), header("X_API_KEY", ""), self._settings.api_keys)
        except Unauthorized:
            # A client with a valid key never comes here, whatever others behind its address do.
            self._limit(self._failed, request.client, "too many requests without a valid API key")
            raise

    @staticmethod
    def _limit(limit: RateLimit, client: object, problem: str) -> None:
        if seconds := limit.seconds_to_wait(client):
            raise TooManyRequests(f"{problem}; try again later", retry_after=math.ceil(seconds))
