"""The photos in a request's body, in every form in which clients send them; independent of Flask.

`forms.py` reads multipart forms, `documents.py` JSON, `tensors.py` the Open Inference Protocol,
`encoding.py` compressed bodies, and `remote.py` fetches photos from hosts that the operator allowed. The
errors are werkzeug's HTTP exceptions.
"""

from typing import NamedTuple

FIELD = "file"
MAX_PHOTOS = 100
"""Photos of one request."""
HOW = f"send an image as the multipart field '{FIELD}', as the body itself, or in JSON as 'image' in base64"

_MB = 1024 * 1024
_SAMPLE = 64
"""Every accepted image has a byte in its first 64 that plain text doesn't have."""


class Photo(NamedTuple):
    """An encoded image.

    Attributes:
        data: the image.
        size: its width and height before the client made it smaller; None: the client doesn't say so.
        keep: whether it may be kept for later training, 1 or 0; None: the form doesn't say so.
    """

    data: bytes
    size: tuple[int, int] | None = None
    keep: str | None = None


def is_text(data: bytes) -> bool:
    """Return whether the data begins like ASCII text, which no image does."""
    return data[:_SAMPLE].isascii() and b"\0" not in data[:_SAMPLE]


def too_large(max_bytes: int) -> str:
    """Return why a body is rejected that has more bytes than it may have."""
    if max_bytes % _MB:
        where = "send photos to POST /predict or POST /v2/models/NAME/infer"
        return f"the body is larger than {max_bytes} bytes, the limit of requests without photos; {where}"
    advice = "send a smaller photo, or fewer photos per request"
    return f"the body is larger than {max_bytes // _MB} MB, the limit of this service; {advice}"
