"""Clients of the service that know what their photos show."""

import contextlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import requests
from numpy.typing import NDArray
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from ml.model.errors import one_line
from scripts.looping.photos import Labelled

_THREADS = 4
_TIMEOUT_S = 60
_CONNECT_S = 2  # a packet for a container that has just stopped is lost, and the next one comes seconds later


@dataclass
class Sender:
    """Sends photos with the consent to keep them, and feedback on some of the answers.

    The first canary restarts the container that serves. Meanwhile it does what a client has to: it connects
    again if nobody listens, and asks again if the service is stopping (503).

    Attributes:
        url: of the service.
        feedback: share of the answers that get feedback.
        retries: how often it tries again, after at most a second each.
        labels: what the photo of each answered request shows, by its `request_id`.
        sent: number of requests.
        failures: number of those that were not answered with 200, by status or kind of error.
        slowest_s: seconds that the slowest answer took.
    """

    url: str
    feedback: float = 0.2
    retries: int = 30
    labels: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def sending(self, photos: Sequence[Labelled], rate: float) -> Iterator[None]:
        """Send photos again and again, in a random order, so many per second, until the context ends."""
        again = Retry(
            total=None, connect=self.retries, read=False, redirect=False, status=self.retries, other=False,
            backoff_factor=0.1, backoff_max=1, status_forcelist=[503], allowed_methods=None,
            raise_on_status=False,
        )  # fmt: skip
        over = threading.Event()
        beats = itertools.count()
        began = time.monotonic()

        def work(seed: int) -> None:
            chance = random.Random(seed)  # noqa: S311
            with requests.Session() as session:
                session.mount("http://", HTTPAdapter(max_retries=again))
                while not over.wait(max(0.0, began + next(beats) / rate - time.monotonic())):
                    self._send(session, chance.choice(photos), chance.random() < self.feedback)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(_THREADS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def judge(self, photos: Sequence[Labelled]) -> NDArray[np.bool_]:
        """Send each photo once, with no consent and no feedback; return which labels are right.

        Raises:
            requests.RequestException: a photo is not answered.
        """
        right = []
        with requests.Session() as session:
            for photo in photos:
                answer = _post(session, f"{self.url}/predict?keep=0", photo.data)
                answer.raise_for_status()
                right.append(answer.json()["label"] == photo.label)
        return np.array(right, bool)

    def _send(self, session: requests.Session, photo: Labelled, with_feedback: bool) -> None:
        document, failure, began = {}, "", time.monotonic()
        try:
            answer = _post(session, f"{self.url}/predict?keep=1", photo.data)
            if answer.status_code == 200:
                document = answer.json()
            failure = f"status {answer.status_code}: {one_line(answer.text, 100)}"
        except requests.RequestException as error:
            failure = one_line(str(error), 200)
        with self._lock:
            self.sent += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            if not document:
                self.failures[failure] += 1
                return
            self.labels[document["request_id"]] = photo.label
        if with_feedback:
            judgement = {"predicted": document["label"], "actual": photo.label}
            with contextlib.suppress(requests.RequestException):
                body = judgement | {"request_id": document["request_id"]}
                session.post(f"{self.url}/feedback", json=body, timeout=_TIMEOUT_S)


def _post(session: requests.Session, url: str, photo: bytes) -> requests.Response:
    return session.post(url, photo, headers={"Content-Type": "image/jpeg"}, timeout=(_CONNECT_S, _TIMEOUT_S))
