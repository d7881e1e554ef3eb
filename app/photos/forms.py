"""Photos as fields of a multipart form (RFC 7578)."""

import re
from typing import Any, NamedTuple

import multipart
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from app.photos import FIELD, MAX_PHOTOS, Photo, is_text

_SIZE_FIELD, _KEEP_FIELD = "size", "keep"
_MAX_FIELDS, _MAX_HEADERS, _MAX_HEADER_BYTES = 2 * MAX_PHOTOS + 1, 8, 4096
"""Fields, which are photos, their sizes, and `keep`; header lines of each field, and bytes of each line."""
_SHOWN_FIELDS, _SHOWN_CHARACTERS = 5, 40
"""How many names of other fields an error message repeats, and how much of each."""

_FILE_NAME = re.compile(r';\s*+filename\*?\s*+=\s*+(?!""|;|$)', re.IGNORECASE)
"""A file name that isn't empty. It may be given in any encoding, or as `filename*` only; it is never used."""
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)


class _Field(NamedTuple):
    header: multipart.MultipartSegment
    data: bytes

    @property
    def file_name(self) -> bool:
        """Whether there is a file name that isn't empty."""
        return bool(_FILE_NAME.search(self.header.header("Content-Disposition", "")))

    @property
    def upload(self) -> bool:
        """Whether it is a file, and not text that somebody typed into a field of that name."""
        typed = self.header.content_type not in (None, "text/plain")
        return self.file_name or self.header.filename is not None or typed or not is_text(self.data)


def photos(body: bytes, boundary: str) -> list[Photo]:
    """Return the files in the fields called `file`, with the sizes in the fields called `size`.

    The first field called `keep` is about all of them.

    A file input in which nothing was chosen is left out: it has neither a name nor content.

    Raises:
        BadRequest: there is no file, the form is broken, or a size is not valid.
        RequestEntityTooLarge: it has too many photos or fields.
    """
    if not boundary:
        raise BadRequest(
            "the Content-Type has no boundary; let your client set the header, instead of setting it yourself"
        )
    fields = _fields(body, boundary)
    uploads = [field for field in fields if field.header.name == FIELD and field.upload]
    sizes = [_size(field.data) for field in fields if field.header.name == _SIZE_FIELD]
    sizes += [None] * len(uploads)
    keep = next((field.data.decode("latin-1") for field in fields if field.header.name == _KEEP_FIELD), None)
    uploaded = [
        Photo(field.data, size, keep)
        for field, size in zip(uploads, sizes, strict=False)
        if field.data or field.file_name
    ]
    if not uploaded:
        raise BadRequest(_nothing_found(fields))
    if len(uploaded) > MAX_PHOTOS:
        raise RequestEntityTooLarge(f"the form has more than {MAX_PHOTOS} photos; send fewer per request")
    return uploaded


def _fields(body: bytes, boundary: str) -> list[_Field]:
    """Return the fields; those whose names mean nothing here have no data.

    The parser of the library `multipart` takes a hundredth of the time that werkzeug's takes for a photo: it
    finds the boundary with `bytearray.find`. The body is in memory already.
    """
    fields: list[_Field] = []
    pieces: list[bytes] = []
    header: Any = None
    try:
        # As Latin-1, any bytes are text: Windows' clients send names in the code page of their user.
        with multipart.PushMultipartParser(
            boundary,
            max_segment_count=_MAX_FIELDS,
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
            header_charset="latin-1",
        ) as parser:
            for event in parser.parse(body):
                if isinstance(event, multipart.MultipartSegment):
                    header, pieces = event, []
                elif event:
                    if header.name in (FIELD, _SIZE_FIELD, _KEEP_FIELD):
                        pieces.append(bytes(event))
                else:
                    fields.append(_Field(header, pieces[0] if len(pieces) == 1 else b"".join(pieces)))
    except multipart.ParserLimitReached as error:
        limits = f"{_MAX_FIELDS} fields, each with {_MAX_HEADERS} header lines of {_MAX_HEADER_BYTES} bytes"
        raise RequestEntityTooLarge(f"the form is too large; it can have {limits}") from error
    except (multipart.MultipartError, ValueError) as error:
        raise BadRequest(f"the multipart form is broken: {str(error.args[0])[:100]}") from error
    return fields


def _size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height that a field holds; None if it is empty."""
    if not data:
        return None
    match = _SIZE.fullmatch(data.decode("latin-1"))
    if not match:
        raise BadRequest(f"'{_SIZE_FIELD}' must be the photo's width and height in pixels, such as 4032x3024")
    return int(match[1]), int(match[2])


def _nothing_found(fields: list[_Field]) -> str:
    if any(field.header.name == FIELD and not field.upload for field in fields):
        return f"the field '{FIELD}' is text, not a file; with curl, write -F {FIELD}=@photo.jpg"
    names = dict.fromkeys(field.header.name for field in fields if field.header.name != FIELD)
    shown = [
        repr(name.encode("latin-1").decode("utf-8", "replace")[:_SHOWN_CHARACTERS])
        for name in list(names)[:_SHOWN_FIELDS]
    ]
    more = ", ..." if len(names) > _SHOWN_FIELDS else ""
    has = f" the form has only {', '.join(shown)}{more};" if shown else ""
    return f"no file;{has} send the image as the multipart field '{FIELD}'"
