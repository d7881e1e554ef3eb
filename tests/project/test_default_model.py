"""The embedded default, as it ships, answers real photos."""

import io
import time
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.inference.loading import load
from app.settings import EMBEDDED
from ml.model.image import decode
from ml.model.reference import COMPONENTS
from scripts.common.pictures import encoded
from tests.helpers.beside import camera_photos
from tests.helpers.paths import ROOT

PHOTOS = ROOT / "tests" / "photos"


@pytest.fixture(scope="module")
def engine():
    return load(EMBEDDED, "auto", 1)


def answer(engine, data: bytes) -> np.ndarray:
    manifest = engine.manifest
    return engine.answer(decode(data, manifest.image_size, manifest.resize)[None]).probabilities[0]


def test_a_cat_is_a_cat_and_stays_one_when_mirrored(engine):
    from PIL import Image, ImageOps

    data = (PHOTOS / "cat.jpg").read_bytes()
    cat = engine.manifest.classes.index("cat")
    straight = answer(engine, data)
    with Image.open(io.BytesIO(data)) as photo:
        mirrored = answer(engine, encoded(ImageOps.mirror(photo), "PNG"))
    assert straight.argmax() == mirrored.argmax() == cat
    assert straight[cat] > 0.9
    assert straight.sum() == pytest.approx(1, abs=1e-5)


def test_it_has_components_and_their_reference(engine):
    """Without them, the panels of the dashboards would be empty for the default model."""
    cat = decode((PHOTOS / "cat.jpg").read_bytes(), engine.manifest.image_size)[None]
    components = engine.answer(cat).components
    assert components.shape == (1, COMPONENTS)
    assert np.abs(components).max() < 5  # in standard deviations
    names = {"known", *(f"component_{number}" for number in range(1, COMPONENTS + 1))}
    assert names <= engine.manifest.reference.keys()


def test_a_batch_answers_as_one_by_one(engine):
    random = np.random.default_rng(0)
    size = engine.manifest.image_size
    images = random.integers(0, 256, (3, size, size, 3), np.uint8)
    single = np.concatenate([engine.answer(image[None]).probabilities for image in images])
    assert np.allclose(engine.answer(images).probabilities, single, atol=1e-4)


def test_the_weights_beside_the_onnx_model_are_the_same_network(engine):
    import torch

    from ml.model import checkpoint
    from ml.model.answering import Answering
    from ml.model.networks import build

    network = build(engine.manifest.arch, len(engine.manifest.classes))
    network.load_state_dict(checkpoint.read(EMBEDDED).state_dict)
    cat = decode((PHOTOS / "cat.jpg").read_bytes(), engine.manifest.image_size)
    pixels = torch.from_numpy(cat.copy())[None]
    with torch.inference_mode():
        exact = Answering(network.eval(), engine.manifest.temperature)(pixels)[0]
    assert np.abs(exact.numpy() - engine.answer(pixels.numpy()).probabilities).max() < 0.05


def least_cost(work: Callable[[], object]) -> float:
    """The processor's time that the work takes, in seconds: the least of several runs."""
    return min(timeit.repeat(work, timer=time.thread_time, number=1, repeat=7))


def test_a_large_jpeg_costs_little_and_gets_the_same_answer(engine, monkeypatch):
    from PIL import Image, JpegImagePlugin

    with Image.open(PHOTOS / "cat.jpg") as photo:
        data = encoded(photo.resize((4000, 3000), Image.Resampling.LANCZOS), quality=92)
    reduced = answer(engine, data)
    cost = least_cost(lambda: answer(engine, data))
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", lambda *_: None)
    full = answer(engine, data)
    difference = abs(full - reduced).max()
    print(f"12 megapixels: {1000 * cost:.0f} ms of one processor, answer within {difference:.1e}")
    assert difference < 0.01
    assert cost < least_cost(lambda: answer(engine, data))


def test_photos_as_cameras_make_them(engine, monkeypatch):
    from PIL import JpegImagePlugin

    photos = camera_photos()
    reduced = np.stack([answer(engine, photo) for photo in photos.values()])
    classes = engine.manifest.classes
    right = sum(
        classes[row.argmax()] == Path(name).parent.name for row, name in zip(reduced, photos, strict=True)
    )
    assert right >= len(photos) - 2
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", lambda *_: None)
    full = np.stack([answer(engine, photo) for photo in photos.values()])
    assert np.abs(full - reduced).max() < 0.01
