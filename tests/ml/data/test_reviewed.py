"""Decisions about collected photos survive kills, are read strictly, and can be deleted."""

import dataclasses
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ml.data import collected, reviewed
from ml.data.collected import CollectedPhoto, hashed
from ml.data.reviewed import Entry
from ml.model.errors import PipelineError
from tests.helpers.paths import ROOT

ENTRY = Entry(
    "2026-11-28T09:00:00Z",
    "0" * 32,
    "a" * 64,
    "label",
    'a "b", c',
    "2026-11-27",
    "random unsure",
    "dog",
    "v1",
)
NONE = dataclasses.replace(ENTRY, id="1" * 32, decision="none", label="", reasons="unsure")
UNDO = dataclasses.replace(ENTRY, decision="undo", label="")
HEAD = "time,id,sha256,decision,label,day,reasons,answer,version"

_WRITE_FOR_EVER = """
from ml.data import reviewed
from tests.ml.data.test_reviewed import ENTRY
import dataclasses, itertools

for number in itertools.count():
    reviewed.append([dataclasses.replace(ENTRY, id=f"{number:032x}")])
    print(number, flush=True)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_last_line_about_a_photo_counts() -> None:
    assert reviewed.load() == {}
    other = dataclasses.replace(ENTRY, label="dog")
    reviewed.append([ENTRY, NONE])
    reviewed.append([other])
    assert reviewed.load() == {NONE.id: NONE, ENTRY.id: other}
    assert reviewed.load()[ENTRY.id].is_random
    assert not NONE.is_random
    reviewed.append([UNDO])
    assert reviewed.load() == {NONE.id: NONE}
    assert reviewed.PATH.read_text().splitlines()[0] == HEAD


def test_a_line_that_was_being_written_is_left_out_and_overwritten() -> None:
    reviewed.append([ENTRY, NONE])
    whole = reviewed.PATH.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    for cut in (start + 1, len(whole) - 1):
        reviewed.PATH.write_bytes(whole[:cut])
        assert reviewed.load() == {ENTRY.id: ENTRY}
        reviewed.append([NONE])
        assert reviewed.PATH.read_bytes() == whole
    reviewed.PATH.write_bytes(b"time,i")
    assert reviewed.load() == {}
    reviewed.append([ENTRY, NONE])
    assert reviewed.PATH.read_bytes() == whole


def test_what_was_decided_survives_a_kill(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE_FOR_EVER],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        last = [*range(20), *map(int, process.stdout.read().split())][-1]
    made = reviewed.load()
    assert {f"{number:032x}" for number in range(last + 1)} <= made.keys()
    assert len(made) <= last + 2


def test_a_full_disk_leaves_the_file_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    reviewed.append([ENTRY])
    before = reviewed.PATH.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        reviewed.append([NONE])
    assert reviewed.PATH.read_bytes() == before


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "2026-11-28T09:00:00Z,../../x,{a},none,,2026-11-27,unsure,dog,v1",
        "2026-11-28T09:00:00Z,{i},{a},label,../x,2026-11-27,unsure,dog,v1",
        "2026-11-28T09:00:00Z,{i},{a},label,..,2026-11-27,unsure,dog,v1",
        "2026-11-28T09:00:00Z,{i},{a},label,,2026-11-27,unsure,dog,v1",
        "2026-11-28T09:00:00Z,{i},{a},none,cat,2026-11-27,unsure,dog,v1",
        "2026-11-28T09:00:00Z,{i},{a},none,,../27,unsure,dog,v1",
        "2026-11-28T09:00:00Z,{i},{a},none,,2026-1-2,unsure,dog,v1",
        "2026-11-28T09:00:00Z,{i},b,none,,2026-11-27,unsure,dog,v1",
        "2026-11-28T09:00:00Z,{i},{a},keep,,2026-11-27,unsure,dog,v1",
        "yesterday,{i},{a},none,,2026-11-27,unsure,dog,v1",
        '"open,{i},{a},none,,2026-11-27,unsure,dog,v1',
    ],
)
def test_a_line_that_makes_no_sense(line: str) -> None:
    reviewed.PATH.write_text(f"{HEAD}\n{line.format(i='0' * 32, a='a' * 64)}\n")
    with pytest.raises(PipelineError, match=r"collected_decisions.csv, line [23]: "):
        reviewed.load()


def test_files_that_are_not_decisions() -> None:
    for content in (b"\xff\n", b"a,b\n"):
        reviewed.PATH.write_bytes(content)
        with pytest.raises(PipelineError, match=r"collected_decisions.csv"):
            reviewed.load()
    with reviewed.PATH.open("wb") as file:
        file.truncate((256 << 20) + 1)
    with pytest.raises(PipelineError, match="larger than 256 MB"):
        reviewed.load()


def test_a_photo_is_deleted_by_the_id_of_its_request(folder: Path) -> None:
    photos = [
        CollectedPhoto(
            f"{number}" * 32,
            "2026-11-27",
            label,
            "a" * 64,
            hashed(f"request-{number}.signature"),
            hashed(f"request-{number}"),
        )
        for number, label in enumerate(("cat", "", "cat"))
    ]
    for photo in photos:
        (folder / "collected" / photo.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "collected" / photo.path).write_bytes(b"x")
    collected.save(photos)
    reviewed.append([dataclasses.replace(ENTRY, label="cat"), NONE])
    assert "request-0" not in collected.PATH.read_text()
    assert reviewed.delete([], ["request-9"]) == []
    assert reviewed.delete([], ["request-0"]) == [Path("collected") / photos[0].path]
    assert reviewed.delete([photos[1].id]) == [Path("collected") / photos[1].path]
    assert collected.load() == [photos[2]]
    collected.PATH.write_text(collected.PATH.read_text(), "utf-8-sig")  # as a spreadsheet saves it
    assert collected.load() == [photos[2]]
    assert reviewed.load() == {}
    assert list((folder / "collected").rglob("*.jpg")) == [folder / "collected" / photos[2].path]


def test_a_photo_that_was_sent_again_is_deleted_with_its_copies(folder: Path) -> None:
    request = hashed("request")
    photos = [
        CollectedPhoto(name * 32, ENTRY.day, "cat", content * 64, hashed(f"request.{signature}"), request)
        for name, content, signature in (("0", "a", "s"), ("1", "a", "t"), ("2", "b", "u"))
    ]
    for photo in photos:
        (folder / "collected" / photo.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "collected" / photo.path).write_bytes(b"x")
    collected.save(photos)
    reviewed.check_delete(["request.s"])
    assert reviewed.delete([], ["request.s"]) == [Path("collected") / photo.path for photo in photos[:2]]
    assert collected.load() == photos[2:]


def test_a_killed_deletion_is_finished_by_the_next_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = CollectedPhoto(
        ENTRY.id, ENTRY.day, "cat", ENTRY.sha256, hashed("request.signature"), hashed("request")
    )
    (folder / "collected" / photo.path).parent.mkdir(parents=True)
    (folder / "collected" / photo.path).write_bytes(b"x")
    collected.save([photo])
    reviewed.append([ENTRY])

    def kill(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(collected, "save", kill)
        with pytest.raises(KeyboardInterrupt):
            reviewed.delete([], ["request"])
    assert not (folder / "collected" / photo.path).exists()
    assert reviewed.delete([], ["request"]) == [Path("collected") / photo.path]
    assert collected.load() == []
    assert reviewed.load() == {}
    assert reviewed.PATH.read_text().count("\n") == 3
    assert reviewed.delete([], ["request"]) == []


@pytest.mark.parametrize(
    "cells",
    [
        ["x", "2026-11-27", "cat", "a" * 64, "a" * 64, "a" * 64],
        ["0" * 32, "2026-13-27", "cat", "a" * 64, "a" * 64, "a" * 64],
        ["0" * 32, "2026-11-27", "../cat", "a" * 64, "a" * 64, "a" * 64],
        ["0" * 32, "2026-11-27", ".cat", "a" * 64, "a" * 64, "a" * 64],
        ["0" * 32, "2026-11-27", "a\\b", "a" * 64, "a" * 64, "a" * 64],
        ["0" * 32, "2026-11-27", "x" * 101, "a" * 64, "a" * 64, "a" * 64],
        ["0" * 32, "2026-11-27", "cat", "a", "a" * 64, "a" * 64],
        ["0" * 32, "2026-11-27", "cat", "a" * 64, "a", "a" * 64],
        ["0" * 32, "2026-11-27", "cat", "a" * 64, "a" * 64],
    ],
)
def test_a_list_that_makes_no_sense(cells: list[str]) -> None:
    collected.PATH.write_text(f"id,day,label,sha256,answer,request\n{','.join(cells)}\n")
    with pytest.raises(PipelineError, match=r"collected.csv, line 2: "):
        collected.load()


def test_periods_are_counted_by_names() -> None:
    name = f"collected_2026-11-27_{'0' * 32}.jpg"
    paths = [
        f"cat/{name}",
        f"dog/{name.replace('11-27', '12-01')}",
        f"dog/{name.replace('0' * 32, '1' * 32)}",
    ]
    assert collected.periods_of([*paths, "cat/collected_1.jpg", "cat/1.jpg"]) == {"2026-11": 2, "2026-12": 1}
