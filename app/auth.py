"""API keys."""

import hmac
from collections.abc import Callable

from flask import request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized


def guard(keys: tuple[str, ...]) -> Callable[[], None]:
    """Return a `before_request` hook that lets a request through only with one of the keys.

    With no keys it lets everything through. The hook runs before the body is parsed.
    """
    accepted = [key.encode() for key in keys]

    def check() -> None:
        if not accepted or request.method == "OPTIONS":  # a browser asks by OPTIONS before it sends a key
            return
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        given = credentials.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")
        # Every key is compared, each in constant time, so that timing tells nothing.
        # WSGI hands over a header's bytes as Latin-1.
        matches = [hmac.compare_digest(given.encode("latin-1", "replace"), key) for key in accepted]
        if not any(matches):
            raise Unauthorized(
                "send an API key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
                www_authenticate=WWWAuthenticate("bearer"),
            )

    return check
