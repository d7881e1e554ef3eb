"""Which photos a source has, and how they are read."""

import os
import sys
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml.model import photos
from ml.model.errors import PipelineError
from ml.scoring import fetching
from ml.scoring.sources import UnreadablePhotoError, list_photos, read_photo
from tests.helpers import s3
from tests.helpers.endpoint import Reply, endpoint
from tests.helpers.paths import ROOT

CAT = (ROOT / "tests/photos/cat.jpg").read_bytes()

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems want names in UTF-8")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    (root / "more/.hidden").mkdir(parents=True)
    for name in ("a.jpg", "more/b.JPEG", "more/.hidden/c.jpg", ".d.jpg", "no-suffix"):
        (root / name).write_bytes(CAT)
    (root / "note.txt").write_text("not a photo")
    (root / "empty.png").write_bytes(b"")
    return root


def names(source):
    return sorted(path.removeprefix(str(source)).lstrip("/") for path in list_photos(str(source)))


def test_a_folder(folder, monkeypatch):
    expected = ["a.jpg", "empty.png", "more/b.JPEG", "no-suffix"]
    assert names(folder) == expected
    monkeypatch.chdir(folder.parent)
    assert sorted(list_photos("photos/")) == sorted(f"{folder}/{name}" for name in expected)


def test_links_are_followed_once_and_after_the_folders(folder):
    (folder / "more/back").symlink_to(folder)
    (folder / "0-link").symlink_to(folder / "more")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "loop").symlink_to("loop")
    (folder / "nothing.jpg").symlink_to("none.jpg")
    (folder / "photo.jpg").symlink_to("a.jpg")
    (folder / "secret.jpg").symlink_to("note.txt")
    (folder.parent / "outside").mkdir()
    (folder.parent / "0a1b2c").write_bytes(CAT)  # in a store of files whose names are hashes
    (folder / "hashed.jpg").symlink_to(folder.parent / "0a1b2c")
    (folder.parent / "outside/e.jpg").write_bytes(CAT)
    (folder / "out").symlink_to(folder.parent / "outside")
    os.mkfifo(folder / "pipe.jpg")
    expected = ["a.jpg", "empty.png", "hashed.jpg", "more/b.JPEG", "no-suffix", "out/e.jpg", "photo.jpg"]
    assert names(folder) == expected


@pytest.mark.parametrize(
    "name", ["a b?#%41&+.jpg", "ünïcödé 🐱.jpg", "line\nbreak\t\x01.jpg", "s3:x.jpg", "'\"`$;.jpg"]
)
def test_names_of_any_characters(folder, name):
    (folder / name).write_bytes(CAT + b"1")
    (path,) = (path for path in list_photos(str(folder)) if path.endswith(name))
    assert read_photo(path) == CAT + b"1"


@on_linux
def test_names_that_are_no_utf_8(folder):
    for number, name in enumerate((b"\xe9.jpg", b"\xe8.jpg", b"%E9.jpg")):
        (folder / os.fsdecode(name)).write_bytes(b"%d" % number)
    (folder / os.fsdecode(b"f\xff")).mkdir()
    (folder / os.fsdecode(b"f\xff/x.jpg")).write_bytes(b"3")
    paths = set(list_photos(str(folder)))
    assert pa.array(list(paths), pa.string()).validate(full=True) is None
    content = {read_photo(path) for path in paths}
    assert {b"0", b"1", b"2", b"3"} <= content
    assert [read_photo(path) for path in list_photos(str(folder / os.fsdecode(b"f\xff")))] == [b"3"]


def test_lists(folder, tmp_path, capsys):
    rows = ["photos/a.jpg", str(folder / "more/b.JPEG"), "", None, "http://u:p@h/x?a=1", "s3://b/k"]
    pq.write_table(pa.table({"id": range(6), "path": rows}), tmp_path / "list.parquet")
    expected = [str(folder / "a.jpg"), str(folder / "more/b.JPEG"), "http://h/x?a=1", "s3://b/k"]
    assert list(list_photos(str(tmp_path / "list.parquet"))) == expected
    assert "list.parquet: rows without a path or address, which are passed over: 2" in capsys.readouterr().err
    (tmp_path / "list.csv").write_text('\ufeffid,url\n1,photos/a.jpg\n\n2\n3,"odd, name\nof.jpg"\n', "utf-8")
    listed = list(list_photos(str(tmp_path / "list.csv")))
    assert listed == [str(folder / "a.jpg"), f"{tmp_path}/odd, name\nof.jpg"]
    assert "list.csv: rows without a path or address, which are passed over: 1" in capsys.readouterr().err
    assert list(list_photos(str(folder / "a.jpg"))) == [str(folder / "a.jpg")]


def _list_of_lists() -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"path": [["a.jpg"]]}), buffer)
    return buffer.getvalue().to_pybytes()


LIST_OF_LISTS = _list_of_lists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none", None, "there is no file or folder"),
        ("list.csv", b"name\na.jpg\n", "no column `path` or `url`, but: name"),
        ("list.csv", b"", "no column"),
        ("list.csv", b"path\n\xe9.jpg\n", "can't decode"),
        ("list.csv", b"path\n" + b"x" * 200_000, "field larger than field limit"),
        ("list.csv", b'path\n"a', "unexpected end of data"),
        ("list.parquet", b"no parquet", "list.parquet: "),
        ("list.parquet", LIST_OF_LISTS, "list.parquet: .*cast"),
        ("photos.zip", b"PK", r"photos.zip: neither folder, photo nor list \(.parquet, .csv\)"),
        ("s3://", None, "names no bucket"),
        ("ftp://host/photos", None, "ftp:// are not supported"),
    ],
)
def test_bad_sources_are_one_line(tmp_path, name, content, message):
    source = name if "://" in name else str(tmp_path / name)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PipelineError, match=message) as failed:
        list(list_photos(source))
    assert len(str(failed.value).splitlines()) == 1


def test_photos_that_cannot_be_read(folder, monkeypatch):
    os.mkfifo(folder / "pipe")
    for path, message in {
        folder / "none.jpg": "there is no such file",
        folder: "directory|not a file",
        folder / "pipe": "not a file",
        "/dev/zero": "not a file",
        f"{folder}/a\0.jpg": "null",
        "ftp://host/a.jpg": "not supported",
        "file://host/a.jpg": "needs an absolute path",
        "file://a.jpg": "needs an absolute path",
        "s3://": "no bucket",
        "http://[": "Invalid IPv6",
    }.items():
        with pytest.raises(UnreadablePhotoError, match=message):
            read_photo(str(path))
    monkeypatch.setattr(photos, "MAX_PHOTO_BYTES", len(CAT))
    assert read_photo(f"file://localhost{folder}/a.jpg") == CAT
    monkeypatch.setattr(photos, "MAX_PHOTO_BYTES", len(CAT) - 1)
    with pytest.raises(UnreadablePhotoError, match="larger than 0 MB"):
        read_photo(str(folder / "a.jpg"))


def test_reading_a_photo_takes_memory_for_that_photo_and_not_for_the_largest_one(folder):
    tracemalloc.start()
    try:
        read_photo(str(folder / "a.jpg"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(CAT) + 200_000  # Python's own objects take more in newer versions


def test_photos_of_a_web_server(monkeypatch):
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.0)
    failures = [503, 0]

    def reply(sent):
        if sent.path == "/again.jpg" and failures:
            return Reply(failures.pop())
        return Reply(404 if "none" in sent.path else 200, CAT, chunked=sent.path == "/chunked.jpg")

    with endpoint(reply) as (url, seen):
        for name in ("a.jpg", "again.jpg", "chunked.jpg"):
            assert read_photo(f"{url}/{name}") == CAT
        assert len(seen) == 5
        with pytest.raises(UnreadablePhotoError, match=r"127\.0\.0\.1 answered 404"):
            read_photo(f"{url}/none.jpg?key=secret")
        monkeypatch.setattr(photos, "MAX_PHOTO_BYTES", 1000)
        with pytest.raises(UnreadablePhotoError, match="larger than"):
            read_photo(f"{url}/chunked.jpg")
    with pytest.raises(UnreadablePhotoError, match="no connection"):
        read_photo(f"{url}/a.jpg")


def test_an_object_store(tmp_path, monkeypatch):
    import fsspec

    keys = [
        "a.jpg",
        "ä ?#%20+.jpg",
        "sub/b.jpg",
        "sub",
        "double//c.jpg",
        ".hidden/d.jpg",
        "no-suffix",
        "note.txt",
    ]
    with s3.bucket(tmp_path, monkeypatch) as bucket:
        store = fsspec.filesystem("s3")
        for key in keys:
            store.pipe_file(f"photos/in/{key}", b"text" if key == "note.txt" else CAT)
        listed = sorted(list_photos(f"{bucket.url}/in/"))
        prefix = "s3://photos/in/"
        assert [path.removeprefix(prefix) for path in listed] == sorted(
            set(keys) - {".hidden/d.jpg", "note.txt"}
        )
        for path in listed:
            if "//c" not in path:
                assert read_photo(path) == CAT
        with pytest.raises(UnreadablePhotoError, match="Empty path component"):
            read_photo(f"{prefix}double//c.jpg")
        with pytest.raises(UnreadablePhotoError, match="there is no such file"):
            read_photo(f"{prefix}none.jpg")
        monkeypatch.setattr(photos, "MAX_PHOTO_BYTES", 10)
        with pytest.raises(UnreadablePhotoError, match="larger"):
            read_photo(f"{prefix}a.jpg")
        store.pipe_file("photos/lists/list.csv", b"path\n../x.jpg\nhttp://host/y.jpg\n")
        assert list(list_photos("s3://photos/lists/list.csv")) == [
            "s3://photos/lists/../x.jpg", "http://host/y.jpg",
        ]  # fmt: skip
        with pytest.raises(PipelineError, match="there is no file or folder s3://none/x"):
            list(list_photos("s3://none/x"))
