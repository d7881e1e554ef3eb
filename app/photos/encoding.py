"""Bodies that a client has compressed (Content-Encoding)."""

import zlib
from typing import Any

from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType

from app.photos import too_large

_GZIP, _ZLIB, _RAW = 31, 15, -15  # `wbits` of zlib


class UnsupportedEncodingError(UnsupportedMediaType):
    """The body is compressed in another way; a header names those that are supported (RFC 9110)."""

    def get_headers(self, *arguments: Any, **options: Any) -> list[tuple[str, str]]:
        """Return the headers of the response."""
        return [*super().get_headers(*arguments, **options), ("Accept-Encoding", "gzip, deflate")]


def decoded(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Return a body as it was before its client compressed it.

    Args:
        body: as it was received, not empty.
        encoding: value of Content-Encoding, empty if there is none.
        max_bytes: the most that it may become.

    Raises:
        UnsupportedMediaType: the encoding is neither gzip nor deflate.
        RequestEntityTooLarge: it becomes larger than that.
        BadRequest: it is not of that encoding, or cut off.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        raise UnsupportedEncodingError(
            f"the Content-Encoding {encoding[:40]!r} isn't supported; send gzip, deflate or none"
        )
    if name == "deflate":  # in zlib's format (RFC 9110); many clients leave that out, as browsers know
        zlib_header = body[0] % 16 == 8 and int.from_bytes(body[:2], "big") % 31 == 0  # RFC 1950
        bits = _ZLIB if zlib_header else _RAW
    else:
        bits = _GZIP
    inflater = zlib.decompressobj(bits)
    try:
        data = inflater.decompress(body, max_bytes + 1)
    except zlib.error:
        raise BadRequest(f"the body isn't valid {name}, which its Content-Encoding states") from None
    if len(data) > max_bytes:
        raise RequestEntityTooLarge(too_large(max_bytes))
    # One stream only: to inflate very many small ones would take long.
    if not inflater.eof or inflater.unused_data:
        raise BadRequest(f"the body is cut off, or more than one {name} stream")
    return data
