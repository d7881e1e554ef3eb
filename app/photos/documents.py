"""Photos in a JSON document: `{"image": ...}`, `{"images": [...]}` or `{"url": ...}`."""

import base64
import codecs
import json
import re
from typing import Any

from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from app.photos import MAX_PHOTOS

MAX_URL_BODY = 4096
"""Largest body with a URL."""

_KEYS = ("image", "images", "url")
_EXPECTED = "send one of 'image' (base64 or a data: URL), 'images' (a list of them) and 'url' (an address)"
_MAX_VALUES = 1000
"""Values that a document may have: a parsed one takes up to 30 times the memory of its text."""
_JSON_START = b'{["-0123456789tfn \t\r\n'
"""The bytes that JSON begins with. No image begins with one of them."""

# The first part of a data: URL (RFC 2397); parameters other than `base64` mean nothing for an image.
_DATA_URL = re.compile(rb"data:[^,]{0,200},", re.IGNORECASE)
_PERCENT_CODES = {b"%2B": b"+", b"%2F": b"/", b"%3D": b"=", b"%20": b"", b"%0D": b"", b"%0A": b""}
"""What clients percent-encode of base64 in a URL. `urllib` would take 200 times the memory of the text."""
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_SPACE = b" \t\r\n"


def is_document(body: bytes, media_type: str) -> bool:
    """Return whether a body is JSON: by its content, and by its type if the content may be JSON."""
    # Windows' programs begin UTF-8 with a byte order mark.
    if body.removeprefix(codecs.BOM_UTF8).lstrip(_SPACE)[:1] == b"{":
        return True
    return media_type.endswith("json") and body[:1] in _JSON_START


def parse(body: bytes) -> dict[str, Any]:
    """Return a document that has exactly one of `image`, `images` and `url`.

    Raises:
        BadRequest: it is not valid JSON, or it has none of them or several.
        RequestEntityTooLarge: it has too many values.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > _MAX_VALUES:
        raise RequestEntityTooLarge(f"the JSON document has more than {_MAX_VALUES} values")
    try:
        document = json.loads(body, strict=False)  # base64 may come with its line breaks
    except (ValueError, RecursionError):
        raise BadRequest(f"the body isn't valid JSON; {_EXPECTED}") from None
    if not isinstance(document, dict) or sum(key in document for key in _KEYS) != 1:
        raise BadRequest(f"the body must be a JSON object with one image or several; {_EXPECTED}")
    return document


def url(document: dict[str, Any]) -> str | None:
    """Return the URL in a document, if it has one.

    Raises:
        BadRequest: it is not a string.
    """
    if "url" in document and not isinstance(document["url"], str):
        raise BadRequest("'url' must be a string")
    return document.get("url")


def keep(document: dict[str, Any]) -> str | None:
    """Return `keep` of a document, whether its photos may be kept: `1` or `0`; None: it has none.

    Raises:
        BadRequest: it is neither 1, 0, true nor false.
    """
    value = document.get("keep")
    if value is not None and not (isinstance(value, int) and value in (0, 1)):
        raise BadRequest("'keep' must be 0 or 1")
    return None if value is None else str(int(value))


def images(document: dict[str, Any]) -> list[bytes]:
    """Return the encoded images in a document that has `image` or `images`.

    Raises:
        BadRequest: one of them is no base64, or there are too many or none.
    """
    if "image" in document:
        return [decode(document["image"], "'image'")]
    texts = document["images"]
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_PHOTOS:
        raise BadRequest(f"'images' must be a list of 1 to {MAX_PHOTOS} images")
    return [decode(text, f"image {number} of {len(texts)}") for number, text in enumerate(texts, 1)]


def decode(text: object, name: str) -> bytes:
    """Decode base64, standard or URL-safe, with or without padding and white space, or a data: URL.

    Raises:
        BadRequest: it is none of these; the message contains the name.
    """
    wrong = BadRequest(f"{name} must be base64 or a data: URL in base64")
    if not isinstance(text, str) or not text.isascii():
        raise wrong
    data = text.encode()
    if match := _DATA_URL.match(data):
        if not match[0][:-1].lower().endswith(b";base64"):
            raise wrong
        data = _percent_decode(data[match.end() :])
    data = data.translate(_TO_STANDARD, _SPACE).rstrip(b"=")
    try:
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except ValueError:
        raise wrong from None


def _percent_decode(data: bytes) -> bytes:
    for code, character in _PERCENT_CODES.items():
        data = data.replace(code, character).replace(code.lower(), character)
    return data
