"""Photos behind http(s) addresses."""

import threading
import time

from ml.model.body import ResponseBody
from ml.model.http import Client, Timeouts, UnreachableError, refusal
from ml.model.photos import check_size
from ml.model.urls import origin

ATTEMPTS = 3
_TOTAL_S = 60.0
"""Time for one attempt, with all redirects."""
_PAUSE_S = 1.0
_TIMEOUTS = Timeouts(connect_s=10.0, read_s=20.0, answer_s=_TOTAL_S)
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity"}

_kept = threading.local()  # each thread's last client, whose connection stays open


def fetch(url: str) -> bytes:
    """Return the content behind a URL; failures that may pass are tried again.

    Raises:
        UnreadablePhotoError: it is larger than `ml.model.photos.MAX_PHOTO_BYTES`.
        DownloadError: it cannot be fetched.
        ValueError: the URL is not valid.
    """
    client = _client(url)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _fetch(client, url)
        except UnreachableError as error:
            if attempt == ATTEMPTS:
                raise
            time.sleep(min(max(error.retry_after_s, _PAUSE_S * attempt), _TOTAL_S))
    raise AssertionError  # the loop above returns or raises


def _client(url: str) -> Client:
    place = origin(url)
    if getattr(_kept, "place", None) != place:
        _kept.place, _kept.client = place, Client(url, None)
    client: Client = _kept.client
    return client


def _fetch(client: Client, url: str) -> bytes:
    deadline, photo = time.monotonic() + _TOTAL_S, bytearray()
    with client.open(url, _HEADERS, _TIMEOUTS) as response:
        if response.status_code != 200:
            raise refusal(response)
        with ResponseBody(response) as body:
            while piece := body.read(deadline):
                photo += piece
                check_size(len(photo))
                if time.monotonic() > deadline:
                    raise UnreachableError(f"not complete after {_TOTAL_S:.0f} s")
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and len(photo) != int(length[:20]):
        raise UnreachableError("the connection ended before the photo did")
    return bytes(photo)
