"""Chooses the example photos that go into a model.pt, each with the label that the model must give it.

They are made small and encoded anew, so that no place, camera or comment of the original is published.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.data.collected import period_of
from ml.data.dataset import Dataset, read_raw
from ml.data.ingest import RAW
from ml.evaluation.metrics import Floats
from ml.model import photos
from ml.model.decision import decide_label
from ml.model.errors import PipelineError
from ml.model.examples import MAX_BYTES, MAX_EXAMPLES, Example
from ml.model.image import ImageError, decode
from ml.model.manifest import Manifest
from ml.model.onnx_model import OnnxModel
from ml.packaging.perturbations import decode_whole, encode

TEST = "test"
"""Value of `package.examples` for photos of the test split."""
MIN_PROBABILITY = 0.6
"""The smoke test of a deployment requires this probability of the right label."""

_CONFIDENT = 0.8  # a photo of the test split must be clear of that limit, whatever the CPU
_TRIES = 5  # photos of a class that are tried, best first: made small, one may get another answer
_PER_CLASS = 3  # of the owner's photos
_SIDES = (512, 384, 256, 128)
_QUALITY = 85


def read_folder(folder: str, classes: Sequence[str]) -> list[Example]:
    """Return the owner's photos: those in a subfolder with the name of a class, and CLASS.jpg and the like.

    Raises:
        PipelineError: there are none, one can't be decoded, or the name of one is that of no class.
    """
    root, by_class = Path(folder), defaultdict[str, list[Path]](list)
    if not root.is_dir():
        raise PipelineError(f"package.examples: {folder} is neither a folder, nor test, nor empty")
    for path in photos.find(root):
        parts = path.relative_to(root).parts
        label = path.stem if len(parts) == 1 else parts[0]
        if label not in classes:
            raise PipelineError(
                f"package.examples: {path} is of no class; put it into a folder with the name of a class: "
                f"{', '.join(classes):.200}"
            )
        by_class[label].append(path)
    if not by_class:
        raise PipelineError(f"package.examples: {folder} contains no photos")
    examples = []
    for number in range(_PER_CLASS):
        for label in classes:
            for path in by_class[label][number : number + 1]:
                examples.append(Example(label, _small(_bytes(path), path)))
    return examples[:MAX_EXAMPLES]


def choose_test_photos(
    data: Dataset, manifest: Manifest, model: OnnxModel, probabilities: Floats, raw: Path = RAW
) -> list[Example]:
    """Return one photo of the test split per class, among those that the model is right and sure about.

    A class without such a photo gets none. The choice depends on the photos and the model alone.

    Args:
        data: the prepared photos.
        manifest: of the model.
        model: the packaged ONNX model.
        probabilities: its answers to the test photos, [N, classes].
        raw: the ingested photos.
    """
    examples = []
    for label, name in enumerate(data.classes):
        for row in _best(data, probabilities, label):
            path = raw / data.paths[row]
            try:
                content = read_raw(data, row, raw)
            except (OSError, ImageError) as error:
                raise PipelineError(f"{path} cannot be used ({error}): run `dvc repro`") from error
            example = Example(name, _small(content, path))
            if not wrong_answers([example], manifest, model, _CONFIDENT):
                examples.append(example)
                break
        if len(examples) == MAX_EXAMPLES:
            break
    return examples


def _best(data: Dataset, probabilities: Floats, label: int) -> list[int]:
    """Return the rows of the class's test photos that the model is surest about, best first.

    Photos of the service's users are not among them: examples are public.
    """
    rows = data.rows("test")
    found = [
        (-probabilities[number, label], data.hashes[row], int(row))
        for number, row in enumerate(rows)
        if data.labels[row] == label
        and probabilities[number].argmax() == label
        and not period_of(data.paths[row])
    ]
    return [row for _, _, row in sorted(found)[:_TRIES]]


def wrong_answers(
    examples: Sequence[Example], manifest: Manifest, model: OnnxModel, least: float = MIN_PROBABILITY
) -> list[str]:
    """Return what is wrong with the model's answers to the examples, one text per wrong or unsure answer."""
    if not examples:
        return []
    wrong = []
    size, resize = manifest.image_size, manifest.resize
    images: NDArray[np.uint8] = np.stack([decode(example.photo, size, resize) for example in examples])
    outputs = model.run(images)
    for number, example in enumerate(examples):
        score = outputs["known"][number] if "known" in outputs else None
        decision = decide_label(manifest, outputs["probabilities"][number], score)
        probability = decision.probabilities[example.label]
        if decision.label != example.label:
            wrong.append(f"the example photo of {example.label} is classified as {decision.label}")
        elif probability < least:
            wrong.append(f"the example photo of {example.label} gets a probability of only {probability:.2f}")
    return wrong


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}") from error


def _small(content: bytes, path: Path) -> bytes:
    """Return a photo as a small JPEG that contains pixels only."""
    try:
        photo = decode_whole(content, max(_SIDES))
    except ImageError as error:
        raise PipelineError(f"{path} cannot be an example: {error}") from error
    for side in _SIDES:
        small = photo.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        small.info.clear()  # Pillow would write a comment that it has read
        encoded = encode(small, "JPEG", quality=_QUALITY, optimize=True)
        if len(encoded) <= MAX_BYTES:
            return encoded
    raise PipelineError(f"{path} cannot be an example: as a small JPEG it is larger than {MAX_BYTES:,} bytes")
