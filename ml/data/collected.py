"""The reviewed photos of the service that belong to the data set: collected.csv, and the folder collected/.

`python -m ml review --export` writes both. collected.csv belongs in Git, and DVC tracks the folder:

    collected/photos/CLASS/collected_DAY_ID.jpg
    collected/other/collected_DAY_ID.jpg         photos of none of the classes

`ingest` adds the first ones to the photos of any source, and `evaluate` measures OOD detection on the others.
"""

import dataclasses
import datetime
import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ml.data import tables
from ml.data.layout import check_class
from ml.model.errors import PipelineError, one_line

PATH = Path("collected.csv")
FOLDER = Path("collected")
ID = re.compile("[0-9a-f]{32}")

_NAME = re.compile(rf"collected_(\d{{4}}-\d\d)-\d\d_({ID.pattern})\.jpg")


@dataclasses.dataclass(frozen=True)
class CollectedPhoto:
    """One line of collected.csv.

    Attributes:
        id: of its record in the store, 32 hexadecimal digits.
        day: on which the service kept it, as 2026-11-27.
        label: its class; empty: none of the classes.
        sha256: of the file.
        answer: SHA-256 of the answer's request_id, by which its sender can ask for the deletion.
        request: SHA-256 of X-Request-ID, which stands for all photos of the request.
    """

    id: str
    day: str
    label: str
    sha256: str
    answer: str
    request: str

    def __post_init__(self) -> None:
        """Raise ValueError for what the names of files must not be made of."""
        if not ID.fullmatch(self.id):
            raise ValueError(f"{one_line(self.id, 40)!r} is not an id of 32 hexadecimal digits")
        check_day(self.day)
        if self.label:
            check_class(self.label)
        if not all(map(tables.SHA256.fullmatch, (self.sha256, self.answer, self.request))):
            raise ValueError("expected three SHA-256 in lower-case hexadecimal")

    @property
    def path(self) -> Path:
        """The file, relative to the folder of collected photos."""
        folder = Path("photos", self.label) if self.label else Path("other")
        return folder / f"collected_{self.day}_{self.id}.jpg"

    def read(self, folder: Path = FOLDER) -> bytes:
        """Return the content of its file.

        Raises:
            PipelineError: the file is missing or is another one.
        """
        try:
            content = (folder / self.path).read_bytes()
        except OSError as error:
            raise PipelineError(
                f"{folder / self.path}: {error.strerror}; `dvc pull collected.dvc` fetches what {PATH} lists"
            ) from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise PipelineError(
                f"{folder / self.path} is not the photo that {PATH} lists: run `dvc checkout`"
            )
        return content


def check_day(day: str) -> None:
    """Raise ValueError unless a text is a day such as 2026-11-27."""
    try:
        right = datetime.date.fromisoformat(day).isoformat() == day
    except ValueError:
        right = False
    if not right:
        raise ValueError(f"{one_line(day, 40)!r} is not a day such as 2026-11-27")


def hashed(request_id: str) -> str:
    """Return the form in which collected.csv has an id, which nobody can turn back."""
    return hashlib.sha256(request_id.encode()).hexdigest()


def load(path: Path = PATH) -> list[CollectedPhoto]:
    """Read the list; it is empty if there is no file.

    Raises:
        PipelineError: the file cannot be read, or a line is invalid.
    """
    return tables.load(path, CollectedPhoto, unique="id")


def save(photos: Iterable[CollectedPhoto], path: Path = PATH) -> None:
    """Replace the list, sorted by day and id so that versions of it can be merged; raises OSError."""
    tables.save(path, CollectedPhoto, sorted(photos, key=lambda photo: (photo.day, photo.id)))


def check_present(photos: Iterable[CollectedPhoto], folder: Path = FOLDER) -> None:
    """Raise PipelineError if a file is missing, as in a checkout in which nobody has typed `dvc pull`.

    DVC would take the files that are there for the whole folder.
    """
    if missing := next((photo.path for photo in photos if not (folder / photo.path).exists()), None):
        raise PipelineError(
            f"{folder / missing} is missing: type `dvc pull collected.dvc`, which fetches what {PATH} lists, "
            "then the same command again"
        )


def files(folder: Path = FOLDER) -> dict[Path, str]:
    """Return the ids of the photos in the folder, listed or not, by their paths relative to it."""
    found = ((path, _NAME.fullmatch(path.name)) for path in folder.rglob("collected_*.jpg"))
    return {path.relative_to(folder): match[2] for path, match in found if match}


def others() -> list[CollectedPhoto]:
    """Return the photos of none of the classes; raises PipelineError."""
    return [photo for photo in load() if not photo.label]


def period_of(path: str) -> str:
    """Return the month in which the service kept a photo, as 2026-11, by its name; else an empty text."""
    match = _NAME.fullmatch(path.rpartition("/")[2])
    return match[1] if match else ""


def periods_of(paths: Iterable[str]) -> dict[str, int]:
    """Count the collected photos among others, by month."""
    return dict(sorted(Counter(filter(None, map(period_of, paths))).items()))
