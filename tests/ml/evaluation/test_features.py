"""The photos of `evaluate.other`, from each kind of source."""

import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from ml.evaluation.features import load_ood_photos
from ml.model.errors import PipelineError
from tests.conftest import BLUE, RED, coloured, encode


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two photos, one that is none, and other files."""
    monkeypatch.chdir(tmp_path)  # which has no collected.csv
    folder = tmp_path / "other"
    (folder / "more").mkdir(parents=True)
    (folder / "red.png").write_bytes(encode(coloured(RED), "PNG"))
    (folder / "more/blue.jpg").write_bytes(encode(coloured(BLUE)))
    (folder / "broken.jpg").write_bytes(b"x")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    return folder


def test_all_kinds_of_sources_have_the_same_photos(folder: Path) -> None:
    with zipfile.ZipFile("other.zip", "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    with tarfile.open("other.tar.gz", "w:gz") as archive:
        archive.add(folder, ".")
    for source in ("other", "other.zip", "other.tar.gz"):
        photos = load_ood_photos(source, 8, "center_crop")
        assert photos is not None
        assert photos.shape == (2, 8, 8, 3)
        assert sorted(photos.mean((1, 2)).argmax(1)) == [0, 2]  # a red one and a blue one


def test_photos_are_in_memory_once(folder: Path) -> None:
    for number in range(100):
        (folder / f"{number}.jpg").write_bytes((folder / "more/blue.jpg").read_bytes())
    tracemalloc.start()  # NumPy reports its arrays
    try:
        photos = load_ood_photos("other", 64, "center_crop")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert photos is not None
    assert len(photos) == 102
    assert peak < 1.7 * photos.nbytes


def test_sources_that_cannot_be_read(folder: Path) -> None:
    with zipfile.ZipFile("other.zip", "w") as file:
        file.write(folder / "red.png", "red.png")
    data = bytearray(Path("other.zip").read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + offset] |= 1
    Path("encrypted.zip").write_bytes(data)
    Path("empty").mkdir()
    messages = {
        "encrypted.zip": "encrypted",
        "empty": "contains no photos",
        "other/notes.txt": "not a valid",
        "nowhere": "No such file",
    }
    for source, message in messages.items():
        with pytest.raises(PipelineError, match=message):
            load_ood_photos(source, 8, "center_crop")
