"""Finds labelled photos, sends them to the live service, several at once, and records its answers."""

import dataclasses
import random
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ml.model.errors import PipelineError
from ml.model.manifest import UNKNOWN
from scripts.common.photos import LabelledPhoto, find
from scripts.common.web import printable
from scripts.live_check.batch import Row
from scripts.live_check.endpoint import Answer, Endpoint


def labelled(data: str, folder: Path) -> tuple[Path, list[LabelledPhoto]]:
    """Return the root folder of the photos, and the photos that have a label; print how many files do not.

    Args:
        data: a folder with one subfolder per class, a .zip file of one, or the URL of such a file.
        folder: a .zip file is unpacked here.

    Raises:
        PipelineError: there are no labelled photos, or the .zip file is damaged or malicious.
    """
    root = Path(data)
    if not root.is_dir():
        from ml.data import ingest
        from ml.params import Ingest

        root = folder / "photos"
        ingest.run(Ingest(source=data), root, folder / "cache", with_collected=False)
    photos = [photo for photo in find([root]) if photo.label]
    others = sum(1 for file in root.rglob("*") if file.is_file()) - len(photos)
    if others:
        print(f"left out: {others} files that are hidden, not photos, or in no class's folder")
    if not photos:
        raise PipelineError(f"{data}: there are no photos in folders named for their classes")
    return root, photos


def examples(endpoint: Endpoint, folder: Path) -> list[LabelledPhoto]:
    """Save the example photos that the service offers, and return them.

    Raises:
        PipelineError: it offers none.
    """
    photos = []
    for number, (label, content) in enumerate(endpoint.examples()):
        photos.append(LabelledPhoto(folder / f"{number}.jpg", label))
        photos[-1].path.write_bytes(content)
    if not photos:
        raise PipelineError(
            f"{endpoint.url} offers no example photos: name your own with --data (workflow: MONITOR_DATA)"
        )
    return photos


def sample(photos: list[LabelledPhoto], count: int) -> list[LabelledPhoto]:
    """Return a sample of the photos, as evenly from the classes as possible; always the same one."""
    by_class: dict[str | None, list[LabelledPhoto]] = {}
    for photo in random.Random(1).sample(photos, len(photos)):  # noqa: S311
        by_class.setdefault(photo.label, []).append(photo)
    in_turn = [photo for one_per_class in zip_longest(*by_class.values()) for photo in one_per_class if photo]
    return sorted(in_turn[:count], key=lambda photo: photo.path)


class PhotoSender:
    """Sends the photos.

    Args:
        endpoint: the service.
        classes: of its model.
        root: folder that the paths of the rows are relative to.
        feedback: whether the true labels are sent as feedback.
    """

    def __init__(self, endpoint: Endpoint, classes: tuple[str, ...], root: Path, feedback: bool) -> None:
        self._endpoint, self._classes, self._root, self._feedback = endpoint, classes, root, feedback

    def run(self, photos: list[LabelledPhoto], concurrency: int) -> list[Row]:
        """Send all photos, `concurrency` at a time; return their rows in the same order.

        Raises:
            RequestError: the batch cannot go on.
        """
        with ThreadPoolExecutor(concurrency) as threads:
            futures = [threads.submit(self._row, photo) for photo in photos]
            try:
                for future in tqdm(as_completed(futures), "photos", total=len(futures), mininterval=0.5):
                    future.result()
            except BaseException:
                self._endpoint.stop()
                threads.shutdown(cancel_futures=True)
                raise
            return [future.result() for future in futures]

    def _row(self, photo: LabelledPhoto) -> Row:
        path = printable(photo.path.relative_to(self._root).as_posix())
        actual = photo.label or ""
        try:
            body = photo.path.read_bytes()
        except OSError as error:
            return Row(path, actual, 0, 0, 0.0, error=f"cannot be read: {error.strerror}")
        answer = self._endpoint.predict(body)
        latency_ms = round(1000 * answer.seconds, 1)
        row = Row(path, actual, answer.status, answer.attempts, latency_ms, error=answer.error)
        if answer.status != 200:
            return row
        prediction = self._prediction(answer)
        if prediction is None:
            return dataclasses.replace(row, error="status 200, but not a prediction of these classes")
        row = dataclasses.replace(row, **prediction)
        if self._feedback:
            status = self._endpoint.judge(row.predicted, row.actual, row.request_id).status
            row = dataclasses.replace(row, feedback=status)
        return row

    def _prediction(self, answer: Answer) -> dict[str, Any] | None:
        """Return the fields of a row that the answer holds; None: it is not a prediction."""
        content = answer.content
        scores, label, model = content.get("probabilities"), content.get("label"), content.get("model")
        if not isinstance(scores, dict) or set(scores) != set(self._classes):
            return None
        if label not in (*self._classes, UNKNOWN):
            return None
        if not all(type(score) in (int, float) and 0 <= score <= 1 for score in scores.values()):
            return None
        if not 0.99 < sum(scores.values()) < 1.01:
            return None
        version = model.get("version") if isinstance(model, dict) else None
        return {
            "predicted": label,
            "probabilities": {name: float(scores[name]) for name in self._classes},
            "request_id": printable(str(content.get("request_id", ""))),
            "version": printable(str(version)),
        }
