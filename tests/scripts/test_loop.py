"""The parts of `make loop`, each with the real thing on its other side; the whole takes minutes."""

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.settings import EMBEDDED
from ml import local_model
from ml.model.image import decode
from scripts.looping import photos
from scripts.looping.photos import Labelled
from scripts.looping.sender import Sender
from scripts.looping.swapped import swap
from scripts.looping.timeline import Accuracy, Timeline, write_page
from scripts.looping.watching import watching
from scripts.standins.github import GitHub
from tests.conftest import coloured, encode, needs
from tests.helpers.paths import ROOT
from tests.helpers.service import running
from tests.helpers.waiting import until

SIZES = (3, 2, 2, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight photos of each of two classes."""
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(sum(SIZES)):
            data = encode(coloured((120, 120, 120), 64, 48, seed=100 * (label == "cat") + number))
            (tmp_path / "photos" / label / f"{number}.jpg").write_bytes(data)
    return tmp_path / "photos"


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.jpg")):
            archive.write(file, f"pets/{file.relative_to(folder)}")
    return path


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image, float)


@pytest.mark.parametrize("pack", [lambda folder: folder, zipped], ids=["folder", "zip"])
def test_no_photo_is_in_two_parts_and_later_ones_are_upside_down(folder, pack):
    parts = photos.parts(pack(folder), SIZES)
    cut = [parts.known, parts.everyday, parts.turned, parts.judged]
    assert [sorted(photo.label for photo in part) for part in cut] == [
        ["cat"] * size + ["dog"] * size for size in SIZES
    ]
    assert len({photo.data for part in cut for photo in part}) == 2 * sum(SIZES)
    originals = {file.read_bytes(): file.parent.name for file in folder.rglob("*.jpg")}
    assert all(originals[photo.data] == photo.label for photo in parts.known + parts.everyday)
    rest = [pixels(data) for data in originals.keys() - {photo.data for photo in cut[0] + cut[1]}]
    for photo in parts.turned + parts.judged:
        turned = pixels(photo.data)[::-1, ::-1]
        assert min(np.abs(turned - original).mean() for original in rest) < 3


def test_too_few_photos(folder):
    with pytest.raises(ValueError, match="at least 16 photos each"):
        photos.parts(folder, (8, 4, 2, 2))


def test_a_swapped_model_answers_with_the_other_class_and_has_no_examples(tmp_path):
    good, bad = local_model.load(EMBEDDED), local_model.load(swap(EMBEDDED, tmp_path / "model.pt"))
    cat = decode((ROOT / "tests" / "photos" / "cat.jpg").read_bytes(), good.manifest.image_size)
    assert (good.decide(cat).label, bad.decide(cat).label) == ("cat", "dog")
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        assert not [name for name in archive.namelist() if "examples" in name]


def test_a_sender_knows_what_it_sent(tmp_path):
    cat = Labelled((ROOT / "tests" / "photos" / "cat.jpg").read_bytes(), "cat")
    settings = {"COLLECT_TO": str(tmp_path / "store"), "COLLECT_RANDOM": "1"}
    with running(LOG_LEVEL="error", **settings) as service:
        service.wait()
        sender = Sender(f"http://127.0.0.1:{service.port}", feedback=1.0)
        with sender.sending([cat], rate=50):
            until(lambda: bool(list((tmp_path / "store").glob("*/*.json"))))
        assert set(sender.labels.values()) == {"cat"}
        assert not sender.failures
        assert sender.judge([cat, Labelled(cat.data, "dog")]).tolist() == [True, False]
        assert re.search(r'feedback_total\{actual="cat",predicted="cat"\} [1-9]', service.metrics())
    sender.retries = 1
    with sender.sending([cat], rate=50):  # nobody listens any more
        until(lambda: sender.failures)


@needs("prometheus", "prometheus-alertmanager")
def test_watching_and_the_page(tmp_path):
    with GitHub().serving() as github, watching(tmp_path / "watching", github.environment()) as watch:
        until(lambda: watch.value('count(up{job="prometheus"})') == 1)
        assert not watch.firing("ModelDrift")
        until(lambda: watch.firing("Watchdog"))
        timeline = Timeline()
        timeline.note("something <b>happened</b>", marked=True)
        timeline.accuracies.append(Accuracy("v1.0.0", 50, 200))
        timeline.reports.append({"title": "Canary: no harm", "text": "| metric |"})
        write_page(timeline, watch.url, timeline.started - 60, tmp_path / "loop.html")
    page = (tmp_path / "loop.html").read_text()
    assert "something &lt;b&gt;happened" in page
    assert "50 of 200" in page
    assert "19.51 % to 31.43 %" in page
    assert "Canary: no harm" in page
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
