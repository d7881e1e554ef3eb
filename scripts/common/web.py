"""Checks that the HTTP clients of the scripts share."""

import os
from urllib.parse import urlsplit


class RequestError(Exception):
    """A request that cannot be sent or answered. The message is one line for the user and holds no secret."""


def checked_url(url: str) -> str:
    """Return an http(s) URL without query, fragment and slash at its end.

    Raises:
        RequestError: it is not one, or holds a user or a password.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or "@" in parts.netloc:
        raise RequestError("the URL must be http://… or https://…, without user and password")
    return parts._replace(query="", fragment="").geturl().rstrip("/")


def check_header(name: str, value: str) -> None:
    """Check that a header can carry the value of a variable.

    Raises:
        RequestError: it cannot.
    """
    if not (value.isascii() and value.isprintable()):
        raise RequestError(f"{name} holds characters that a header cannot carry")


def key_header() -> dict[str, str]:
    """Return the header X-API-Key with the variable API_KEY, if that is set; raises as `check_header`."""
    key = os.environ.get("API_KEY", "")
    check_header("API_KEY", key)
    return {"X-API-Key": key} if key else {}


def printable(text: str) -> str:
    """Return a text from elsewhere as one line that is fit for a table."""
    return "".join(letter if letter.isprintable() else "?" for letter in text).strip()[:200]
