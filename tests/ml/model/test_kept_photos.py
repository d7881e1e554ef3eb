"""Records of kept photos: what is written, and that nothing in a file is trusted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ml.model import kept_photos
from ml.model.kept_photos import Folder, Record, RecordError

RECORD = Record(
    id="0123456789abcdef" * 2,
    request_id="mine." + "A" * 32,
    time="2026-11-27T14:03:22Z",
    reasons=("unknown", "random"),
    random_share=0.01,
    answer={"label": "unknown", "probabilities": {"Katze ü": 0.61, "dog": 0.39}, "known": 0.2},
    model={"version": "1", "sha256": "ab" * 32},
    actual="dog",
    width=1024,
    height=768,
    sha256="cd" * 32,
)


def test_a_record_survives_its_file() -> None:
    assert Record.from_json(RECORD.to_json()) == RECORD
    assert RECORD.path == "2026-11-27/0123456789abcdef0123456789abcdef.json"
    without = replace(RECORD, actual=None, answer={**RECORD.answer, "known": None})
    assert Record.from_json(without.to_json()) == without


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2}, {"id": "../../etc/passwd"}, {"id": "A" * 32}, {"id": "0" * 31}, {"id": 5},
        {"request_id": "a b"}, {"request_id": "a/b"}, {"request_id": ""}, {"request_id": "a" * 129},
        {"time": "2026-13-27T14:03:22Z"}, {"time": "2026-11-27"}, {"time": "2026-1-7T14:03:22Z"},
        {"time": "../../../../../../Z"}, {"time": 0}, {"reasons": []}, {"reasons": ["liked"]},
        {"reasons": "unknown"}, {"reasons": [["unknown"]]}, {"random_share": "0.1"}, {"random_share": 2},
        {"random_share": True}, {"random_share": float("nan")}, {"random_share": 10**400},
        {"answer": {}}, {"answer": []},
        {"answer": {"label": "x", "probabilities": {}, "known": None}},
        {"answer": {"label": "x", "probabilities": {"x": "1"}, "known": None}},
        {"answer": {"label": "x" * 200, "probabilities": {"x": 1}, "known": None}},
        {"answer": {"label": 1, "probabilities": {"x": 1}, "known": None}},
        {"answer": {"label": "x", "probabilities": {"x": 1}, "known": float("inf")}},
        {"model": {"version": 1, "sha256": "ab" * 32}}, {"model": {"version": "1", "sha256": "ab"}},
        {"actual": 1}, {"actual": ""}, {"width": 0}, {"width": 1025}, {"height": 1.5}, {"height": True},
        {"sha256": "x"}, {"more": 1},
    ],
)  # fmt: skip
def test_an_invalid_record_is_refused(change: dict[str, object]) -> None:
    document = json.loads(RECORD.to_json()) | change
    with pytest.raises(RecordError) as caught:
        Record.from_json(json.dumps(document).encode())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b"{}"])
def test_what_is_no_record_is_refused(content: bytes) -> None:
    with pytest.raises(RecordError):
        Record.from_json(content)


@pytest.mark.parametrize("address", ["kept", "/srv/kept", "C:\\kept", "file:///srv/kept", "."])
def test_folders(address: str) -> None:
    assert isinstance(kept_photos.open_store(address), Folder)


@pytest.mark.parametrize(
    "address",
    [
        "ftp://host/x", "s3://", "s3:///x", "s3:bucket", "s3://B/x", "s3://key:secret@bucket/x", "s3://bucket/x?y",
        "S3://bucket", "gs://bucket/a b", "http://host/x", "file://host/x", "file:x", "s3://bucket/x#y",
    ],
)  # fmt: skip
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="must be a folder, or s3://"):
        kept_photos.open_store(address)


def test_buckets() -> None:
    for address in ("s3://bucket", "gs://bucket/pre/fix/"):
        assert kept_photos.local_folder(address) is None


def test_a_folder_is_written_to_and_read(tmp_path: Path) -> None:
    store = Folder(tmp_path / "a" / "b")
    with pytest.raises(FileNotFoundError):
        store.read(RECORD.path)
    kept_photos.keep(store, RECORD, b"photo")
    assert store.read(RECORD.photo_path) == b"photo"
    assert Record.from_json(store.read(RECORD.path)) == RECORD
    assert len(list(tmp_path.rglob("*.*"))) == 2  # no temporary file
    (tmp_path / "a" / "b" / RECORD.path).write_bytes(bytes(10**6))
    assert len(store.read(RECORD.path)) == kept_photos.MAX_RECORD_BYTES


class FullFolder(Folder):
    """A folder that has room for photos only; some files can't be removed from it."""

    def __init__(self, root: Path, written: bool = False, fixed: str = "none") -> None:
        super().__init__(root)
        self.written, self.fixed = written, fixed

    def write(self, path: str, content: bytes) -> None:
        if self.written or not path.endswith(".json"):
            super().write(path, content)
        if path.endswith(".json"):
            raise OSError("no room")

    def remove(self, path: str) -> None:
        if path.endswith(self.fixed):
            raise PermissionError("it must not be removed")
        super().remove(path)


@pytest.mark.parametrize("written", [False, True])  # True: only the answer of the store is lost
def test_a_photo_whose_record_can_not_be_written_is_removed(tmp_path: Path, written: bool) -> None:
    with pytest.raises(OSError, match="no room"):
        kept_photos.keep(FullFolder(tmp_path, written), RECORD, b"photo")
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("fixed", [".jpg", ".json"])
def test_what_can_not_be_removed_is_no_record_without_its_photo(tmp_path: Path, fixed: str) -> None:
    with pytest.raises(OSError, match="no room"):
        kept_photos.keep(FullFolder(tmp_path, written=True, fixed=fixed), RECORD, b"photo")
    left = {path.suffix for path in tmp_path.rglob("*.*")}
    assert left == ({".jpg"} if fixed == ".jpg" else {".jpg", ".json"})
