"""Which files are photos, by their content and their names, is the same everywhere."""

import os
from pathlib import PurePosixPath

import pytest

from ml.data.sources import opened
from ml.model import photos
from ml.model.formats import inspect
from ml.scoring.sources import list_photos
from scripts.common.photos import find as find_labelled
from tests.conftest import RED, coloured, encode


def test_photos_in_folders_and_files(tmp_path):
    names = ("b.JPG", "a/x.jfif", "a/y.jpe", "a/.hidden/z.png", "__MACOSX/q.png", ".r.png", "notes.txt")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    found = [str(path.relative_to(tmp_path)) for path in photos.find(tmp_path)]
    assert found == ["a/x.jfif", "a/y.jpe", "b.JPG"]
    labelled = find_labelled([tmp_path])
    assert [photo.path for photo in labelled] == photos.find(tmp_path)
    assert [photo.label for photo in labelled] == ["a", "a", None]
    assert photos.find(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]  # named by the user
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        photos.find(tmp_path / "none")


def test_links_are_followed_as_ml_score_and_ingest_do(tmp_path):
    folder, outside = tmp_path / "photos", tmp_path / "outside"
    (folder / "cat").mkdir(parents=True)
    outside.mkdir()
    photo = encode(coloured(RED))
    (folder / "cat/1.jpg").write_bytes(photo)
    (outside / "2.jpg").write_bytes(photo)
    (outside / "notes.txt").write_text("no photo")
    (folder / "cat/3.jpg").symlink_to(outside / "notes.txt")
    (folder / "cat/all").symlink_to(folder)  # a loop
    (folder / "dog").symlink_to(outside)
    expected = ["cat/1.jpg", "dog/2.jpg"]
    assert [file.relative_to(folder).as_posix() for file in photos.find(folder)] == expected
    assert [os.path.relpath(path, folder) for path in list_photos(str(folder))] == expected
    with opened(folder) as source:
        assert [file.path.as_posix() for file in source.photos] == expected


FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")


@pytest.mark.parametrize("form", FORMATS)
def test_suffixes_are_of_formats_that_are_decoded(form):
    assert inspect(encode(coloured(RED), form), 10**6).kind == form
    assert photos.is_photo(PurePosixPath(f"photo.{form}"), lambda: b"")


@pytest.mark.parametrize("form", FORMATS)
def test_a_photo_of_any_name_is_found_by_its_content(tmp_path, form):
    (tmp_path / "IMG_0001").write_bytes(encode(coloured(RED), form))
    (tmp_path / "photo.heic.orig").write_bytes(encode(coloured(RED), form))
    for name, content in (
        ("notes", b"BM is short for bitmap"), ("empty", b""), ("film.mp4", b"\0\0\0\x18ftypmp42" + bytes(12)),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
    assert [file.name for file in photos.find(tmp_path)] == ["IMG_0001", "photo.heic.orig"]
