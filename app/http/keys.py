"""API keys in the headers of a request."""

import hmac
from collections.abc import Sequence

from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized


def sent_key(authorization: str, x_api_key: str, accepted: Sequence[str]) -> str:
    """Return the key that a request was sent with.

    Args:
        authorization: the header Authorization; empty: there is none.
        x_api_key: the header X-API-Key; empty: there is none.
        accepted: the keys of which it must be one.

    Raises:
        Unauthorized: it is none of them.
    """
    scheme, _, credentials = authorization.partition(" ")
    key = credentials.strip() if scheme.lower() == "bearer" else x_api_key
    # Compares with every key, each in constant time, so that the response time reveals nothing.
    # A header's bytes are decoded as Latin-1.
    sent = key.encode("latin-1", "replace")
    matches = [hmac.compare_digest(sent, one.encode()) for one in accepted]
    if not any(matches):
        raise Unauthorized(
            "send an API key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
            www_authenticate=WWWAuthenticate("bearer"),
        )
    return key
