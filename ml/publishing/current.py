"""The model that is released now, and its answers to the photos that the new one is tested on."""

import dataclasses
import hashlib
import tempfile
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np

from ml import bundle
from ml.dataset import Dataset
from ml.errors import PipelineError
from ml.fetch import fetch
from ml.github.client import GitHub
from ml.image import ImageError, decode
from ml.manifest import Manifest
from ml.metrics import Floats
from ml.releases import MODEL, Releases
from ml.twin import answers


class IncomparableError(PipelineError):
    """A model that can't answer these photos; the message says why."""


@dataclasses.dataclass(frozen=True)
class Current:
    """What is released.

    Attributes:
        name: its tag, or where it is from.
        data: the bytes of its `model.pt`.
    """

    name: str
    data: bytes


def released() -> Current | None:
    """Download `model.pt` of the latest release; None where there is no release, or it has no model.

    Raises:
        PipelineError: the repository can't be asked, or the file is not the one that its digest says.
    """
    releases = Releases(GitHub.from_environment())
    if (release := releases.latest()) is None:
        return None
    for asset in releases.assets(release):
        if asset.name == MODEL and asset.whole:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, MODEL)
                releases.download(asset, path)
                return Current(release.tag, path.read_bytes())
    return None


def given(source: str) -> Current:
    """Read the file, or the URL, that a person names.

    Raises:
        PipelineError: it can't be had.
    """
    scheme = urlsplit(source).scheme
    try:
        if scheme in ("http", "https"):
            with tempfile.TemporaryDirectory() as folder:
                return Current(source, fetch(source, Path(folder)).read_bytes())
        path = Path(url2pathname(urlsplit(source).path)) if scheme == "file" else Path(source)
        return Current(source, path.read_bytes())
    except (OSError, ValueError) as error:
        raise PipelineError(f"{source} can't be read: {error}") from error


def read(current: Current) -> bundle.Bundle:
    """Read the model.

    Raises:
        IncomparableError: it is no `model.pt` of this pipeline, or has no twin to run.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, MODEL)
        path.write_bytes(current.data)
        try:
            return bundle.read(path)
        except ValueError as error:
            raise IncomparableError(str(error)) from error


def probabilities(model: bundle.Bundle, data: Dataset, raw: Path) -> Floats:
    """Answer the test photos.

    Args:
        model: may want the photos in another size, or cut otherwise, than they were prepared.
        data: the prepared photos.
        raw: the photos as they came, for that case.

    Returns:
        [N, classes], the columns in the order of the data's classes.

    Raises:
        IncomparableError: the classes differ, the photos aren't there, or the twin doesn't run.
    """
    manifest = model.manifest
    if set(manifest.classes) != set(data.classes):
        raise IncomparableError(
            f"it tells {_listed(manifest.classes)}, the photos are {_listed(data.classes)}"
        )
    if (manifest.image_size, manifest.resize) != (data.image_size, data.resize):
        data = _prepared(model.manifest, data, raw)
    try:
        found = answers(model.onnx, data, data.rows("test"))
    except Exception as error:
        raise IncomparableError(f"its twin doesn't run: {' '.join(str(error).split()):.200}") from error
    if found.shape != (len(data.rows("test")), len(data.classes)) or not np.isfinite(found).all():
        raise IncomparableError("its twin doesn't answer with a probability for each class")
    return found[:, [manifest.classes.index(name) for name in data.classes]]


def _prepared(manifest: Manifest, data: Dataset, raw: Path) -> Dataset:
    """Return the test photos, prepared as another model wants them."""
    size, rows = manifest.image_size, data.rows("test")
    images = np.empty((len(rows), size, size, 3), np.uint8)
    for number, row in enumerate(rows):
        try:
            photo = (raw / data.paths[row]).read_bytes()
            if hashlib.sha256(photo).hexdigest() != data.hashes[row]:
                raise ImageError("another photo")
            images[number] = decode(photo, size, manifest.resize)
        except (OSError, ImageError) as error:
            raise IncomparableError(
                f"it takes photos of {size} pixels ({manifest.resize}), and {raw / data.paths[row]} can't be "
                f"prepared so ({error})"
            ) from error
    return dataclasses.replace(
        data, images=images, labels=data.labels[rows], splits=data.splits[rows], image_size=size,
        resize=manifest.resize,
    )  # fmt: skip


def _listed(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes)
    return shown if len(shown) < 200 else f"{len(classes)} classes"
