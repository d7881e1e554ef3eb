"""`python -m ml collected`: lists photos, deletes them on request and when they are old; trusts nothing."""

import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ml.__main__ import COMMANDS
from ml.cli import run
from ml.collected.store import Collected
from ml.model import kept_photos
from ml.model.errors import PipelineError
from ml.model.kept_photos import Folder, Record
from tests.helpers.http_server import Handler, Server
from tests.ml.model.test_kept_photos import RECORD


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "kept"


def keep(store: Path, number: int, days_ago: int = 0, **changes: object) -> Record:
    photo = b"photo %d" % number
    time = (datetime.now(UTC) - timedelta(days=days_ago)).strftime(kept_photos.TIME)
    record = replace(
        RECORD,
        id=f"{number:032x}",
        request_id=f"request-{number}.{'A' * 32}",
        time=time,
        sha256=hashlib.sha256(photo).hexdigest(),
        **changes,  # type: ignore[arg-type]
    )
    kept_photos.keep(Folder(store), record, photo)
    return record


def command(*arguments: str | Path) -> int:
    return run("ml", "", COMMANDS, ["collected", *map(str, arguments)])


def files(store: Path) -> set[str]:
    return {path.name for path in store.rglob("*") if path.is_file()}


def test_the_summary(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(store, 1, days_ago=3)
    keep(store, 2, actual=None, reasons=("unsure",))
    keep(store, 3, actual="unknown")
    (store / "2020-01-01").mkdir()
    (store / "2020-01-01" / f"{'4' * 32}.jpg").write_bytes(b"")
    (store / "2020-01-01" / f"{'5' * 32}.json").write_bytes(b"{}")
    command(store)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{store}: 4 photos of 2020-01-01 to ")
    assert lines == [
        "reasons: unknown 2, random 2, unsure 1",
        "answers: unknown 3",
        "models: 1 3",
        "feedback: 2 photos, on 1 of which the answer was wrong",
        "not usable: invalid records 1, photos without a record 1",
    ]
    command(store, "--list")
    shown = capsys.readouterr()
    assert sorted(line.split("\t")[5] for line in shown.out.splitlines()) == [
        f"request-{number}.{'A' * 32}" for number in (1, 2, 3)
    ]
    assert "5555.json: it is not valid" in shown.err


def test_a_photo_is_deleted_by_its_request_id(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = (keep(store, number, days_ago=number) for number in range(3))
    command(store, "--delete", first.request_id)
    assert capsys.readouterr().out == f"deleted {first.photo_path} and its record\n"
    command(store, "--delete", "request-1")  # X-Request-ID
    assert files(store) == {f"{third.id}.jpg", f"{third.id}.json"}
    with pytest.raises(SystemExit) as caught:
        command(store, "--delete", second.request_id)
    assert f"no photo has the request id {second.request_id}" in str(caught.value)
    foreign = replace(keep(store, 4), request_id="without-a-dot")
    kept_photos.keep(Folder(store), foreign, b"photo 4")
    with pytest.raises(SystemExit, match="--delete needs the request id"):
        command(store, "--delete", "")  # of a variable that is not set
    assert f"{foreign.id}.jpg" in files(store)


def test_a_photo_that_was_sent_again_is_deleted_with_its_copies(store: Path) -> None:
    sent, other = keep(store, 1), keep(store, 2)
    lost = replace(sent, id="a" * 32, request_id=f"request-1.{'B' * 32}")
    kept_photos.keep(Folder(store), lost, b"photo 1")
    beside = replace(other, id="b" * 32, request_id=f"request-1.{'C' * 32}")  # another photo of the request
    kept_photos.keep(Folder(store), beside, b"photo 2")
    command(store, "--delete", sent.request_id)
    assert {name.partition(".")[0] for name in files(store)} == {other.id, beside.id}


def test_a_file_is_no_store(store: Path) -> None:
    photo = keep(store, 1)
    with pytest.raises(SystemExit, match=" is a file"):
        command(store / photo.photo_path, "--older-than", "1")


def test_old_photos_are_deleted_with_what_a_killed_service_left(store: Path) -> None:
    old, recent = keep(store, 1, days_ago=30), keep(store, 2, days_ago=29)
    names = (f"{'3' * 32}.jpg", f".{'4' * 32}.jpg.123.part", "notes.txt")
    for name in names:
        (store / old.day / name).write_text("x")
    (store / "other").mkdir()
    (store / "other" / f"{'5' * 32}.jpg").write_text("x")
    command(store, "--older-than", "30")
    kept = {f"{recent.id}.jpg", f"{recent.id}.json"}
    assert files(store) == {*kept, "notes.txt", f"{'5' * 32}.jpg"}
    (store / old.day / "notes.txt").unlink()
    command(store, "--older-than", "30")
    assert not (store / old.day).exists()
    command(store, "--older-than", "29")
    assert not files(store) & kept


@pytest.mark.parametrize("days", ["-1", "x", "99999"])
def test_other_numbers_of_days_are_refused(store: Path, days: str) -> None:
    keep(store, 1)
    with pytest.raises(SystemExit):
        command(store, "--older-than", days)
    assert len(files(store)) == 2


def test_a_store_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no such folder"):
        command(tmp_path / "nowhere")
    with pytest.raises(SystemExit, match="must be a folder"):
        command("ftp://x")


class _Forbidden(Handler):
    def do_GET(self) -> None:
        self.answer(403)


def test_a_bucket_that_may_not_be_read_is_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Server(_Forbidden) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        with pytest.raises(SystemExit, match=r"^error: gs://forbidden/live: Forbidden"):
            command("gs://forbidden/live")
    assert not caplog.records  # of gcsfs, its traceback; of google.auth, that it found no credentials


def test_nothing_in_a_store_is_trusted(store: Path, tmp_path: Path) -> None:
    good = keep(store, 1)
    day = store / good.day
    secret = tmp_path / "secret"
    secret.write_bytes(good.to_json())
    (day / f"{'a' * 32}.json").symlink_to(secret)
    os.mkfifo(day / f"{'b' * 32}.json")
    (day / f"{'c' * 32}.json").mkdir()
    (day / f"{'d' * 32}.json").write_bytes(b" " * 300_000)
    (day / f"{'e' * 32}.json").write_bytes(good.to_json())  # the record of another photo
    (store / "2026-01-01").symlink_to(day)
    rejected: list[tuple[str, str]] = []
    found = Collected(str(store))
    assert list(found.records(rejected=lambda *each: rejected.append(each))) == [good]
    assert [(path[-6:], reason) for path, reason in rejected] == [
        ("d.json", "it is too large"),
        ("e.json", "it is about another photo"),
    ]
    (day / f"{good.id}.jpg").write_bytes(b"another")
    with pytest.raises(PipelineError, match="is not the photo of its record"):
        found.photo(good)
    (day / f"{good.id}.jpg").write_bytes(bytes(5 << 20))
    with pytest.raises(PipelineError, match="is not a kept photo"):
        found.photo(good)
    (day / f"{good.id}.jpg").unlink()
    (day / f"{good.id}.jpg").symlink_to(secret)
    with pytest.raises(PipelineError, match="is not a kept photo"):
        found.photo(good)
    found.delete(good)
    assert secret.exists()
