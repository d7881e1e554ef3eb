"""The photos of a request: one as the body, several as fields of a form, or any of these as JSON."""

from flask import Request
from werkzeug.exceptions import BadRequest, HTTPException, RequestEntityTooLarge, UnsupportedMediaType

from app.http.admission import FETCHED
from app.photos import HOW, Photo, documents, forms, is_text, too_large
from app.photos.encoding import decoded
from app.settings import Settings

_OFF = "this service fetches no images; its operator can allow hosts with the setting ALLOWED_IMAGE_HOSTS"
_URL_ALONE = f"a body with 'url' can have up to {documents.MAX_URL_BODY} bytes, and no Content-Encoding"


def read(request: Request, settings: Settings) -> list[Photo]:
    """Return the photos of a request, at least one and none empty.

    The content of the body decides how it is read. Its type is needed for forms only.

    Args:
        request: the request, whose body has not been read.
        settings: MAX_UPLOAD_MB, the most that the body may have, as it is and decompressed;
            ALLOWED_IMAGE_HOSTS.

    Raises:
        HTTPException: 400 if there is no image, an empty one, or a broken form or document; 413 if the body
            is too large or has too many parts; 415 if it is text, or compressed in a way that isn't
            supported; or why the image at a URL couldn't be fetched.
    """
    body = read_body(request, settings)
    if request.mimetype == "multipart/form-data":
        photos = forms.photos(body, request.mimetype_params.get("boundary", ""))
    elif documents.is_document(body, request.mimetype):
        document = documents.parse(body)
        remote = documents.url(document) is not None
        photos = (
            [_fetched(request, settings)] if remote else [Photo(data) for data in documents.images(document)]
        )
        photos = [photo._replace(keep=documents.keep(document)) for photo in photos]
    elif not body:
        raise BadRequest(f"no file; {HOW}")
    elif is_text(body):
        raise UnsupportedMediaType(f"the body is text, not an image; {HOW}")
    else:
        photos = [Photo(body)]
    for number, photo in enumerate(photos, 1):
        if not photo.data:
            raise BadRequest("the file is empty" if len(photos) == 1 else f"file {number} is empty")
    return photos


def read_body(request: Request, settings: Settings) -> bytes:
    """Return the body of a request, decompressed.

    Raises:
        HTTPException: 413 if it is too large; 400 or 415 if it can't be decompressed.
    """
    max_bytes = settings.max_upload_bytes
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise RequestEntityTooLarge(too_large(max_bytes)) from None
    return decoded(body, request.headers.get("Content-Encoding", ""), max_bytes) if body else body


def _fetched(request: Request, settings: Settings) -> Photo:
    """Return the photo that the server has fetched before it passed the request on."""
    outcome = request.environ.get(FETCHED)
    if outcome is None:
        raise BadRequest(_URL_ALONE if settings.allowed_image_hosts else _OFF)
    if isinstance(outcome, HTTPException):
        raise outcome
    return Photo(outcome)
