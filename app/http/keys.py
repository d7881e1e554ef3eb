"""API keys in the headers of a request."""

import hmac
from collections.abc import Sequence

from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

KEY_ADVICE = "send an API key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"


def sent_key(authorization: str, x_api_key: str, accepted: Sequence[str], advice: str = KEY_ADVICE) -> str:
    """Return the key that a request was sent with.

    Args:
        authorization: the header Authorization; empty: there is none.
        x_api_key: the header X-API-Key; empty: there is none.
        accepted: the keys of which it must be one.
        advice: what the error says.

    Raises:
        Unauthorized: neither header has one of them.
    """
    scheme, _, credentials = authorization.partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else ""
    valid = ""
    for key in (bearer, x_api_key):  # a proxy may use Authorization for itself
        # Compares with every key, each in constant time, so that the response time reveals nothing.
        # A header's bytes are decoded as Latin-1.
        sent = key.encode("latin-1", "replace")
        matches = [hmac.compare_digest(sent, one.encode()) for one in accepted]
        valid = key if any(matches) else valid
    if not valid:
        raise Unauthorized(advice, www_authenticate=WWWAuthenticate("bearer"))
    return valid
