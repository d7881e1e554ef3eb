"""Client of the image-classification service: photos in, labels out.

    from photo_classifier import Client

    with Client("http://localhost:8080") as client:
        answer = client.predict("cat.jpg")
        print(answer.label, answer.probabilities)

It needs `requests` with urllib3 2.2 or newer, and nothing else: this file can be copied.
"""

import email.utils
import io
import os
import random
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self
from urllib.parse import urljoin

import requests
import urllib3
from requests.adapters import HTTPAdapter

__all__ = [
    "ClassifierError",
    "Client",
    "Explanation",
    "Prediction",
    "RejectedError",
    "UnreachableError",
]

_TRANSIENT = frozenset({408, 425, 429, 502, 503, 504})
_CONNECT_S = 5.0
_BACKOFF_S, _LONGEST_BACKOFF_S = 0.5, 10.0
_CONNECTIONS = 32
_ANSWER_BYTES, _PIECE_BYTES = 16 << 20, 64 << 10  # at most, of a body and of one read


class _PilImage(Protocol):
    @property
    def mode(self) -> str: ...

    def save(self, fp: Any, format: str | None = None, **options: Any) -> None: ...


Photo = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | _PilImage
"""A path, the content of a file, an open file, or an image of PIL."""


class ClassifierError(Exception):
    """There is no answer; the message says why."""


class UnreachableError(ClassifierError):
    """The service could not be reached in time."""


class RejectedError(ClassifierError):
    """The service answered with an error.

    Attributes:
        status: the HTTP status.
        title, detail: what is wrong, in the service's words.
        request_id: the request's id in the service's log; empty if the answer isn't from the service itself.
    """

    def __init__(self, status: int, title: str, detail: str, request_id: str) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status, self.title, self.detail, self.request_id = status, title, detail, request_id


@dataclass(frozen=True)
class Explanation:
    """Where in the photo the evidence for the most likely class is.

    Attributes:
        grid: rows from top to bottom; 0 is no evidence, 1 the maximum in this photo.
        box: left, top, right and bottom of the part that the grid covers, as fractions of width and height.
        overlay: the grid as a transparent PNG, as a data: URL.
    """

    grid: list[list[float]]
    box: tuple[float, float, float, float]
    overlay: str


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo.

    Attributes:
        label: a class, or `unknown`.
        probabilities: of every class, or of the most likely ones.
        known: how much the photo looks like any of the classes, from 0 to 1; None: the model can't tell.
        explanation: if it was asked for.
        request_id: for `Client.feedback`.
        model_version, model_arch: which model answered.
    """

    label: str
    probabilities: dict[str, float]
    known: float | None
    explanation: Explanation | None
    request_id: str
    model_version: str
    model_arch: str


class Client:
    """Talks to one service. Several threads can use it.

    Args:
        url: address of the service, such as https://photos.example.org.
        key: one of its API_KEYS, if it has any.
        timeout_s: longest wait for an answer, and for each of its parts, in seconds.
        deadline_s: after so many seconds for a photo, no attempt begins, and an answer that isn't complete is
            given up when the next part of its body arrives, or after `timeout_s` without any part.

    Raises:
        ValueError: the key is not one line of text.
    """

    def __init__(
        self, url: str, key: str | None = None, *, timeout_s: float = 30.0, deadline_s: float = 120.0
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout_s, self._deadline_s = timeout_s, deadline_s
        self._session = requests.Session()
        self._session.auth = _Key(key)
        adapter = HTTPAdapter(pool_maxsize=_CONNECTIONS)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def predict(
        self, photo: Photo, *, explain: bool = False, top: int | None = None, keep: bool | None = None
    ) -> Prediction:
        """Return the service's prediction for a photo.

        Args:
            photo: a path, the content of a file, an open file, or an image of PIL, which is sent as JPEG of
                quality 95, or as PNG if it has transparent parts.
            explain: whether to ask where the evidence is.
            top: how many of the most likely classes to get; None: all.
            keep: whether the service may keep the photo for later training; None: as its operator decided.

        Raises:
            RejectedError: the service rejects the photo or the key, or is busy for too long.
            UnreachableError: the service can't be reached in time.
            ClassifierError: the photo can't be read, or the answer isn't one of this service.
        """
        data = _read(photo)
        query = {"explain": "1"} if explain else {}
        if top is not None:
            query["top"] = str(top)
        if keep is not None:
            query["keep"] = str(int(keep))
        # The service judges a photo by its content. All attempts have the same id, so that copies which it
        # kept from earlier attempts can be found and deleted.
        headers = {"Content-Type": "application/octet-stream", "X-Request-ID": uuid.uuid4().hex}
        response = self._post("/predict", data, params=query, headers=headers)
        return _prediction(response)

    def predict_many(
        self,
        photos: Iterable[Photo],
        *,
        at_once: int = 4,
        explain: bool = False,
        top: int | None = None,
        keep: bool | None = None,
    ) -> Iterator[Prediction | ClassifierError]:
        """Yield a prediction for each photo, or the error why there is none, in the order of the photos.

        Args:
            photos: any number of photos, which are taken a few at a time. Open files and images are read
                before the next one is taken, so a generator may close them then.
            at_once: how many are sent at the same time, up to 32.
            explain: see `predict`.
            top: see `predict`.
            keep: see `predict`.
        """

        def one(photo: Photo | ClassifierError) -> Prediction | ClassifierError:
            if isinstance(photo, ClassifierError):
                return photo
            try:
                return self.predict(photo, explain=explain, top=top, keep=keep)
            except ClassifierError as error:
                return error

        def held(photo: Photo) -> Photo | ClassifierError:
            try:
                return photo if isinstance(photo, str | os.PathLike) else _read(photo)
            except ClassifierError as error:
                return error

        workers = max(1, min(at_once, _CONNECTIONS))
        pool = ThreadPoolExecutor(workers)
        pending: deque[Future[Prediction | ClassifierError]] = deque()
        try:
            for photo in photos:
                pending.append(pool.submit(one, held(photo)))
                if len(pending) >= 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def feedback(self, prediction: Prediction, actual: str) -> None:
        """Tell the service the correct label of a photo; it counts for the live accuracy.

        Raises:
            ClassifierError: as for `predict`.
        """
        document = {"predicted": prediction.label, "actual": actual, "request_id": prediction.request_id}
        self._post("/feedback", json=document)

    def _post(self, path: str, photo: bytes | None = None, **request: Any) -> requests.Response:
        """Send a request until it is answered or the time is over; both routes may get one repeatedly."""
        give_up = time.monotonic() + self._deadline_s
        backoff_s = _BACKOFF_S
        while True:
            left_s = max(0.01, give_up - time.monotonic())
            error: ClassifierError
            try:
                response = self._session.post(
                    f"{self._url}{path}",
                    timeout=(min(_CONNECT_S, left_s), min(self._timeout_s, left_s)),
                    allow_redirects=False,  # a key must not go elsewhere, and a 302 would become a GET
                    stream=True,
                    # A hook, because requests reads the body of a redirect itself, before post() returns.
                    hooks={"response": lambda response, **_: _receive(response, give_up)},
                    data=None if photo is None else _Sent(photo, give_up),
                    **request,
                )
            except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as failure:
                lasting = isinstance(failure, ValueError | requests.exceptions.SSLError)  # a bad URL, for one
                error, again, pause_s = UnreachableError(f"{self._url}: {failure}"), not lasting, 0.0
            else:
                if response.status_code in (200, 204):
                    return response
                error, again = _rejection(response), response.status_code in _TRANSIENT
                pause_s = _retry_after_s(response.headers.get("Retry-After", ""))
            pause_s = max(pause_s, backoff_s * random.uniform(0.5, 1))  # noqa: S311
            backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
            if not again or time.monotonic() + pause_s >= give_up:
                raise error
            time.sleep(pause_s)


class _Sent(io.BytesIO):
    """A photo that is sent in pieces. Given bytes, urllib3 would have to send all within `_CONNECT_S`."""

    def __init__(self, photo: bytes, give_up: float) -> None:
        super().__init__(photo)
        self._give_up = give_up

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() >= self._give_up:
            raise requests.ConnectTimeout("the photo was not sent in time")
        return super().read(size)


class _Key(requests.auth.AuthBase):
    """Sends the key, and keeps requests from sending a password of ~/.netrc instead."""

    def __init__(self, key: str | None) -> None:
        self._key = (key or "").strip()  # a file that the key is read from ends with a line break
        if not self._key.isprintable():
            raise ValueError("the key must be one line of text")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}".encode()  # type: ignore[assignment]
        return request


_HIGH_BYTES = bytes(value >> 8 for value in range(1 << 16))
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")


def _read(photo: Photo) -> bytes:
    """Return the content of a photo's file."""
    if isinstance(photo, bytes | bytearray | memoryview):
        return bytes(photo)
    try:
        if isinstance(photo, str | os.PathLike):
            return Path(photo).read_bytes()
        if hasattr(photo, "read"):
            return bytes(photo.read())
        if hasattr(photo, "save"):
            return _encode(photo)  # reads it only now
        raise TypeError(f"it is a {type(photo).__name__}, and neither path, bytes, open file nor image")
    except Exception as error:  # of a closed or broken image, PIL raises anything
        raise ClassifierError(f"the photo can't be read: {error}") from error


def _encode(image: Any) -> bytes:
    from PIL import ImageOps  # whoever has such an image has PIL

    image = ImageOps.exif_transpose(image)
    buffer = io.BytesIO()
    if image.mode == "F":
        raise ValueError("its mode is F, whose range is unknown: convert it to L first")
    if image.mode.startswith("I"):  # 16 bits, which convert() would clip to 8 instead of scaling
        image = image.convert("I").point(_HIGH_BYTES, "L")
    of_palette = getattr(image.palette, "mode", "") == "RGBA"  # as quantize() leaves it
    if image.mode in _TRANSPARENT or "transparency" in image.info or of_palette:
        image.convert("RGBA").save(buffer, "PNG")
    else:
        image.convert("RGB").save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _receive(response: requests.Response, give_up: float) -> None:
    """Read the body of a response; a socket's timeout limits only the wait for the next part.

    Args:
        response: gets the body as its content.
        give_up: when to stop reading, by `time.monotonic`.

    Raises:
        requests.ReadTimeout: the body isn't complete in time.
        urllib3.exceptions.HTTPError: the connection broke.
        ClassifierError: the body is too large.
    """
    body = bytearray()
    with response:  # a connection whose body is read to its end is back in the pool by then
        while piece := response.raw.read1(_PIECE_BYTES, decode_content=True):
            body += piece
            if len(body) > _ANSWER_BYTES:
                raise ClassifierError(
                    f"the answer isn't one of this service: it exceeds {_ANSWER_BYTES >> 20} MB"
                )
            if time.monotonic() >= give_up:
                raise requests.ReadTimeout("the answer was not complete in time")
    response._content = bytes(body)


def _prediction(response: requests.Response) -> Prediction:
    try:
        document = response.json()
        explanation = document.get("explanation")
        return Prediction(
            label=document["label"],
            probabilities=document["probabilities"],
            known=document.get("known"),
            explanation=explanation
            and Explanation(explanation["grid"], tuple(explanation["box"]), explanation["overlay"]),
            request_id=document["request_id"],
            model_version=document["model"]["version"],
            model_arch=document["model"]["arch"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClassifierError(f"the answer isn't one of this service: {response.text[:200]!r}") from error


def _rejection(response: requests.Response) -> RejectedError:
    title, detail, request_id = response.reason or "", response.text[:200], ""
    if 300 <= response.status_code < 400:
        address = response.headers.get("Location") or ""
        address = address and urljoin(response.url, address).partition("?")[0]
        address = address.removesuffix("/predict").removesuffix("/feedback")
        detail = f"the service is at {address or 'another address'}; use that address"
    try:
        problem = response.json()
        title, detail, request_id = problem["title"], problem["detail"], problem["request_id"]
    except (ValueError, KeyError, TypeError):
        pass  # not from the service itself, but from a proxy for instance
    return RejectedError(response.status_code, title, detail, request_id)


def _retry_after_s(value: str) -> float:
    """Return the seconds that a Retry-After header asks for; 0 if it is missing or invalid."""
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
