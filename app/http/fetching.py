"""Fetches the photo at a URL, before the prediction needs a worker or a place in the queue."""

import logging
import threading
from typing import Any

from werkzeug.exceptions import HTTPException, InternalServerError

from app.http.admission import RejectedError, queue_full
from app.http.request import uploads_rejected
from app.photos import documents
from app.photos.remote import AT_ONCE, RemotePhotos
from app.settings import Settings

_log = logging.getLogger(__name__)


class Fetching:
    """One thread per photo, which ends with `Listener.admit` or `Listener.reject`."""

    def __init__(self, settings: Settings, listener: Any) -> None:
        self._listener = listener
        self._photos = RemotePhotos(settings.allowed_image_hosts, settings.max_upload_bytes)
        self._room = threading.BoundedSemaphore(AT_ONCE)

    def begin(self, channel: Any) -> bool:
        """Begin to fetch the photo of a prediction; return False if there is none to fetch.

        The listener gets the request back with the photo, or with the reason why there is none, in `fetched`.

        Raises:
            RejectedError: too many photos are being fetched, or the prediction would be rejected anyway.
        """
        body = _small_body(channel.requests[0])
        if not documents.is_document(body, ""):
            return False
        try:
            url = documents.url(documents.parse(body))
        except HTTPException:  # the app finds it too, and answers it
            return False
        if url is None:
            return False
        if self._listener.admission.full:
            raise queue_full()
        if not self._room.acquire(blocking=False):
            raise RejectedError("fetches", "too many images are being fetched")
        try:
            threading.Thread(target=self._fetch, args=(channel, url), name="fetch", daemon=True).start()
        except RuntimeError as error:  # the system has no more threads
            self._room.release()
            raise RejectedError("fetches", "no thread can be started to fetch the image") from error
        return True

    def _fetch(self, channel: Any, url: str) -> None:
        request, budget = channel.requests[0], self._listener.budget

        def count(size: int) -> None:
            if not budget.reserve(request.body, size):
                raise uploads_rejected()

        try:
            request.fetched = self._photos.fetch(url, count)
        except RejectedError as rejection:
            self._listener.reject(channel, rejection)
            return
        except HTTPException as error:
            request.fetched = error
        except Exception:  # noqa: BLE001  (otherwise, the request would never be answered)
            _log.exception("an image could not be fetched")
            request.fetched = InternalServerError("an unexpected error while the image was fetched")
        finally:
            self._room.release()
        self._listener.admit(channel)


def _small_body(request: Any) -> bytes:
    """Return the body of a request if it is small enough for a URL."""
    if request.body is None or not 0 < request.body_bytes_received <= documents.MAX_URL_BODY:
        return b""
    stream = request.get_body_stream()
    body: bytes = stream.read()
    stream.seek(0)  # the app will read it
    return body
