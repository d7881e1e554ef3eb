"""What the HTTP clients must know about a URL: where it leads, and whether secrets may go there."""

import re
from pathlib import PurePath
from urllib.parse import SplitResult, urlsplit

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Names of this machine."""


def origin(url: str) -> tuple[str, str | None, int]:
    """Return the scheme, host and port of an http(s) URL.

    Raises:
        ValueError: the URL's port is not a number from 0 to 65535.
    """
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def loses_encryption(url: str, target: str) -> bool:
    """Return whether a redirect from a URL to another one leaves encryption."""
    return urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https"


def beside(url: str, suffix: str) -> str:
    """Return the URL of the file whose path has this suffix in addition; the query may authorize it too."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path}{suffix}").geturl()


def public(address: str) -> str:
    """Return a URL without the parts that may be secret: user info, query and fragment; a path unchanged."""
    try:
        parts = urlsplit(address)
    except ValueError:  # a mistyped one
        return re.sub(r"(?<=//)[^/]*@|[?#].*", "", address)
    if parts.scheme not in ("http", "https", "file"):
        return address
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def public_name(address: str) -> str:
    """Return an http(s) URL as `public` does, and of a path only the name of the file or folder."""
    shown = public(address)
    return shown if shown.startswith(("http:", "https:")) else PurePath(address).name


def bare(parts: SplitResult) -> str:
    """Return a URL without user info and fragment."""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
