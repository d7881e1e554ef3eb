"""API keys."""

from collections.abc import Sequence

from flask import request

from app.http.keys import sent_key
from app.service import current_service


def require_api_key() -> None:
    """Let a request pass only with one of API_KEYS, if there are any; a `before_request` function.

    `app.http.gate` has checked POST requests already, before their body was received.

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
    if keys and request.method != "OPTIONS":
        sent_key(request.headers.get("Authorization", ""), request.headers.get("X-API-Key", ""), keys)
