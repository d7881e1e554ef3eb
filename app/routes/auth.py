"""API keys."""

import hmac
from collections.abc import Sequence

from flask import request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

from app.service import current_service


def require_api_key() -> None:
    """Let a request pass only with one of API_KEYS, if there are any; a `before_request` function.

    Raises:
        Unauthorized: the request has none of the keys.
    """
    _require(current_service().settings.api_keys)


def require_metrics_token() -> None:
    """Let a request pass only with METRICS_TOKEN, if it is set.

    Raises:
        Unauthorized: the request doesn't have the token.
    """
    token = current_service().settings.metrics_token
    _require((token,) if token else ())


def _require(keys: Sequence[str]) -> None:
    # Browsers send OPTIONS without a key, to ask whether they may send one.
    if not keys or request.method == "OPTIONS":
        return
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    key = credentials.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")
    # Compares with every key, each in constant time, so that the response time reveals nothing.
    # WSGI decodes a header's bytes as Latin-1.
    sent = key.encode("latin-1", "replace")
    matches = [hmac.compare_digest(sent, accepted.encode()) for accepted in keys]
    if not any(matches):
        raise Unauthorized(
            "send an API key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
            www_authenticate=WWWAuthenticate("bearer"),
        )
