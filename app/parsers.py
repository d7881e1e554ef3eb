"""How the text of an environment variable becomes a setting's value, for `app.settings`."""

import re
from collections.abc import Callable
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ml.model import kept_photos
from ml.model.signature import SignatureError, public_key

Network = IPv4Network | IPv6Network
Origin = tuple[str, str, int]
"""Scheme, host and port of a URL."""


class SettingsError(ValueError):
    """A variable has a value that the service can't use; the message is one line that names the variable."""


class Parser(NamedTuple):
    """How the text of a variable becomes a value."""

    values: str
    """Which texts are valid, for the documentation."""
    parse: Callable[[str, str], Any]
    """Takes the variable's name and its text, which is not empty; raises SettingsError."""


def integer(low: int, high: int) -> Parser:
    """Return the parser of whole numbers from `low` to `high`."""

    def parse(name: str, text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text, re.ASCII) or not low <= int(text) <= high:
            raise SettingsError(f"{name}={text!r:.60}: must be a whole number from {low} to {high}")
        return int(text)

    return Parser(f"{low:,} to {high:,}", parse)


def share() -> Parser:
    """Return the parser of decimal numbers from 0 to 1."""

    def parse(name: str, text: str) -> float:
        if not re.fullmatch(r"\d{0,2}(\.\d{0,9})?", text, re.ASCII) or text == "." or float(text) > 1:
            raise SettingsError(f"{name}={text!r:.60}: must be a number from 0 to 1, such as 0.05")
        return float(text)

    return Parser("0 to 1", parse)


def choice(*choices: str) -> Parser:
    """Return the parser of one of these words, in any case."""

    def parse(name: str, text: str) -> str:
        if text.lower() not in choices:
            raise SettingsError(f"{name}={text!r:.60}: must be one of {', '.join(choices)}")
        return text.lower()

    return Parser(", ".join(f"`{choice}`" for choice in choices), parse)


def switch() -> Parser:
    """Return the parser of `on` and `off`."""
    on_or_off = choice("on", "off")
    return Parser(on_or_off.values, lambda name, text: bool(on_or_off.parse(name, text) == "on"))


def sha256(name: str, text: str) -> str:
    """Parse a SHA-256."""
    if not re.fullmatch(r"[0-9a-f]{64}", text.lower()):
        raise SettingsError(f"{name}={text!r:.80}: must be 64 hexadecimal digits")
    return text.lower()


def url(*schemes: str) -> Parser:
    """Return the parser of URLs with one of these schemes."""

    def parse(name: str, text: str) -> str:
        try:  # the URL may contain secrets, so no message repeats it
            parts = urlsplit(text)
            _ = parts.port
        except ValueError:
            raise SettingsError(f"{name}: not a valid URL") from None
        if parts.scheme not in schemes or (parts.scheme != "file" and not parts.hostname):
            raise SettingsError(f"{name}: must start with {' or '.join(f'{one}://' for one in schemes)}")
        if parts.scheme == "file" and (parts.hostname not in (None, "localhost") or parts.path[:1] != "/"):
            raise SettingsError(f"{name}: a file URL needs an absolute path, as in file:///models/model.pt")
        return text

    return Parser(f"URL that starts with {' or '.join(f'`{one}://`' for one in schemes)}", parse)


def text(values: str, pattern: str) -> Parser:
    """Return the parser of texts that match a pattern; `values` describes them."""

    def parse(name: str, text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise SettingsError(f"{name}: must be {values}")
        return text

    return Parser(values, parse)


def store(name: str, text: str) -> str:
    """Parse the address of a folder or bucket, for which its package must be installed."""
    try:
        folder = kept_photos.local_folder(text)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None
    scheme = text.partition(":")[0]
    if folder is None and find_spec(kept_photos.BUCKETS[scheme]) is None:
        install = "run pip install -r requirements-collect.txt, or build the image with --build-arg COLLECT=1"
        raise SettingsError(f"{name}: {scheme}:// needs a package that isn't installed; {install}")
    return text


def items(values: str, pattern: str, read: Callable[[str], str] = str) -> Parser:
    """Return the parser of comma-separated items that match a pattern; `values` describes them.

    `read` brings an item into the one form in which the service compares it.
    """

    def parse(name: str, text: str) -> tuple[str, ...]:
        items = tuple(read(item.strip()) for item in text.split(",") if item.strip())
        # An empty list is an error too, because setting API_KEYS is meant to restrict access.
        if not items or not all(re.fullmatch(pattern, item, re.ASCII) for item in items):
            raise SettingsError(f"{name}: must be {values}")
        return items

    return Parser(values, parse)


def origin(text: str) -> str:
    """Return an origin as browsers send it: in lower case, without the port that its scheme has anyway."""
    text = text.lower()
    return text.removesuffix(":443" if text.startswith("https:") else ":80")


def public_keys(name: str, text: str) -> tuple[bytes, ...]:
    """Parse comma-separated public keys."""
    try:
        return tuple(public_key(item) for item in text.split(","))
    except SignatureError as error:
        raise SettingsError(f"{name}: {error}") from None


def networks(name: str, text: str) -> tuple[Network, ...]:
    """Parse comma-separated IP networks."""
    items = [item.strip() for item in text.split(",") if item.strip()]
    try:
        return tuple(map(_network, items or [text]))
    except ValueError as error:
        raise SettingsError(f"{name}: must be networks such as 10.0.0.0/8; {error!s:.100}") from None


def _network(text: str) -> Network:
    network = ip_network(text)
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    # The service takes ::ffff:192.0.2.1 for the IPv4 address, see `app.http.addresses`.
    return IPv4Network((mapped, network.prefixlen - 96)) if mapped and network.prefixlen >= 96 else network


def origins(name: str, text: str) -> tuple[Origin, ...]:
    """Parse comma-separated hosts, each with an optional scheme and port; https is the default."""
    return tuple(_origin(name, item.strip()) for item in text.split(","))


def _origin(name: str, item: str) -> Origin:
    try:
        parts = urlsplit(item if "://" in item else f"https://{item}")
        host, port = parts.hostname or "", parts.port
        if parts.scheme not in ("http", "https") or parts.netloc != item.rpartition("://")[2]:
            raise ValueError
        if ":" in host:
            host = str(ip_address(host))
        elif not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", host) or "@" in parts.netloc or port == 0:
            raise ValueError
    except ValueError:
        raise SettingsError(f"{name}: {item!r:.60} must be a host such as photos.example.org") from None
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80)
