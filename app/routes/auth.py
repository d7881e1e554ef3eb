"""API keys."""

from collections.abc import Sequence

from flask import request

from app.http.keys import KEY_ADVICE, sent_key
from app.service import current_service

_TOKEN_ADVICE = "send METRICS_TOKEN as 'Authorization: Bearer TOKEN' or 'X-API-Key: TOKEN'"  # noqa: S105


def require_api_key() -> None:
    """Let a request pass only with one of API_KEYS, if there are any; a `before_request` function.

    `app.http.gate` has checked POST requests already, before their body was received.

    Raises:
        Unauthorized: the request has none of the keys.
    """
    keys = current_service().settings.api_keys
    # Browsers send OPTIONS without a key, to ask whether they may send one.
    if keys and request.method != "OPTIONS":
        _require_one_of(keys, KEY_ADVICE)


def require_metrics_token() -> None:
    """Let a request pass only with METRICS_TOKEN, if it is set.

    Raises:
        Unauthorized: the request doesn't have the token.
    """
    if token := current_service().settings.metrics_token:
        _require_one_of((token,), _TOKEN_ADVICE)


def _require_one_of(keys: Sequence[str], advice: str) -> None:
    sent_key(request.headers.get("Authorization", ""), request.headers.get("X-API-Key", ""), keys, advice)
