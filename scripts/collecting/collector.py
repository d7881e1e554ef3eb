"""Photos sent to a live service, several at once, and what it answers."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from common import photos
from common.patient import Answer, one_line
from tqdm import tqdm

from collecting.batch import Row
from collecting.endpoint import Endpoint
from ml.manifest import UNKNOWN


class Collector:
    """Sends the photos.

    Args:
        endpoint: to whom.
        classes: of its model.
        root: what the paths of the rows are relative to.
        feedback: whether the true labels are sent too.
    """

    def __init__(self, endpoint: Endpoint, classes: tuple[str, ...], root: Path, feedback: bool) -> None:
        self._endpoint, self._classes, self._root, self._feedback = endpoint, classes, root, feedback

    def run(self, found: list[photos.Photo], concurrency: int) -> list[Row]:
        """Send all of them, so many at once; return their rows in the same order.

        Raises:
            ServiceError: no use to go on.
        """
        with ThreadPoolExecutor(concurrency) as pool:
            futures = [pool.submit(self._row, photo) for photo in found]
            try:
                for future in tqdm(as_completed(futures), "photos", total=len(futures), mininterval=0.5):
                    future.result()
            except BaseException:
                self._endpoint.stop()
                pool.shutdown(cancel_futures=True)
                raise
            return [future.result() for future in futures]

    def _row(self, photo: photos.Photo) -> Row:
        path = one_line(photo.path.relative_to(self._root).as_posix())
        actual = photo.label or ""
        try:
            body = photo.path.read_bytes()
        except OSError as error:
            return Row(path, actual, 0, 0, 0.0, error=f"can't be read: {error.strerror}")
        answer = self._endpoint.predict(body)
        row = Row(
            path, actual, answer.status, answer.attempts, round(1000 * answer.seconds, 1), error=answer.error
        )
        if answer.status != 200:
            return row
        told = self._prediction(answer)
        if told is None:
            return dataclasses.replace(row, error="status 200, but not a prediction of these classes")
        row = dataclasses.replace(row, **told)
        if self._feedback:
            word = self._endpoint.feedback(row.predicted, row.actual, row.request_id)
            row = dataclasses.replace(row, feedback=word.status)
        return row

    def _prediction(self, answer: Answer) -> dict[str, Any] | None:
        """Return the fields of a row that the answer tells; None where it is no prediction."""
        content = answer.content
        given, label, model = content.get("probabilities"), content.get("label"), content.get("model")
        if (
            not isinstance(given, dict)
            or set(given) != set(self._classes)
            or label not in (*self._classes, UNKNOWN)
        ):
            return None
        if not all(type(p) in (int, float) and 0 <= p <= 1 for p in given.values()):
            return None
        if not 0.99 < sum(given.values()) < 1.01:
            return None
        version = model.get("version") if isinstance(model, dict) else None
        return {
            "predicted": label,
            "probabilities": {name: float(given[name]) for name in self._classes},
            "request_id": one_line(str(content.get("request_id", ""))),
            "version": one_line(str(version)),
        }
