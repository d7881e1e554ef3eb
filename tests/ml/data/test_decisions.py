"""Decisions about photos are read strictly, written completely, and obeyed by prepare."""

import hashlib
import shutil

import pytest
from PIL import Image, PngImagePlugin

from ml.data import decisions, prepare
from ml.data.dataset import Dataset
from ml.data.decisions import LabelDecision
from ml.model.errors import PipelineError
from tests.helpers.params import copy_params
from tests.helpers.paths import ROOT

A, B = "a" * 64, "b" * 64
HEAD = "sha256,decision,label,path\n"


@pytest.fixture
def go(tmp_path, params):
    def run(raw, *made, out="processed"):
        decisions.save(made, tmp_path / "decisions.csv")
        return prepare.run(
            params.prepare, raw, tmp_path / out, tmp_path / "report", tmp_path / "decisions.csv"
        )

    return run


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def labels_and_splits(folder):
    data = Dataset.load(folder)
    labels = [data.classes[label] for label in data.labels]
    return dict(zip(data.paths, zip(labels, data.splits.tolist(), strict=True), strict=True))


def test_what_is_written_is_read(tmp_path):
    made = [
        LabelDecision(B, "relabel", 'cats, "big" & small = 5', 'dog/a, "b".jpg'),
        LabelDecision(A, "drop", "", "dog/ü.jpg"),
        LabelDecision("c" * 64, "keep", "", "cat/1.jpg"),
    ]
    path = tmp_path / "decisions.csv"
    decisions.save(made, path)
    assert decisions.load(path) == {each.sha256: each for each in made}
    lines = path.read_text("utf-8").splitlines()
    assert lines[0] + "\n" == HEAD
    assert lines[1].startswith(A)  # sorted, so that versions can be merged
    assert sorted(tmp_path.iterdir()) == [path]


def test_no_file_an_empty_one_and_one_from_a_spreadsheet(tmp_path):
    path = tmp_path / "decisions.csv"
    assert decisions.load(path) == {}
    path.write_text("")
    assert decisions.load(path) == {}
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEAD}{A},drop,,\n\n".replace("\n", "\r\n").encode())
    assert decisions.load(path) == {A: LabelDecision(A, "drop")}


def test_the_repository_has_a_valid_file():
    decisions.load(ROOT / decisions.PATH)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\ncat/1.jpg,dog\n", "line 1: expected the columns sha256,decision,label,path"),
        (
            f"{HEAD}{A},drop,,x\n<<<<<<< HEAD\n",
            "line 3: expected sha256,decision,label,path, not '<<<<<<< HEAD'",
        ),
        (f"{HEAD}{A},drop\n", "line 2: expected sha256"),
        (f"{HEAD}../../etc/passwd,drop,,x\n", "line 2: '../../etc/passwd' is not a SHA-256"),
        (f"{HEAD}{A.upper()},drop,,x\n", "line 2: .* lower-case"),
        (f"{HEAD}{A},delete,,x\n", "line 2: the decision is one of keep, relabel, drop, not 'delete'"),
        (f"{HEAD}{A},relabel,,x\n", "line 2: relabel needs the right class"),
        (f"{HEAD}{A},drop,cat,x\n", "line 2: drop takes no label"),
        (f"{HEAD}{A},drop,,x\n{B},keep,,x\n{A},keep,,x\n", "line 4: line 2 is about the same photo"),
        (f'{HEAD}{A},drop,,"x\n{B},keep,,x\n', "line 3: .*end of data"),
        (f"{HEAD}{A},drop,,{'x' * 200_000}\n", "line 2: field larger"),
        (f"{HEAD}{A},dr\x1b[31mop,,x\n", r"not 'dr\?\[31mop'"),
        (b"\xff\xfe\x00s", "not UTF-8"),
    ],
)
def test_a_bad_file_is_rejected_with_its_line(tmp_path, content, message):
    path = tmp_path / "decisions.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PipelineError, match=message) as caught:
        decisions.load(path)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "decisions.csv"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PipelineError, match="larger than 256 MB"):
        decisions.load(path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "decisions.csv"
    decisions.save([LabelDecision(A, "drop")], path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        decisions.save([], path)
    assert decisions.load(path) == {A: LabelDecision(A, "drop")}
    assert sorted(tmp_path.iterdir()) == [path]


def test_prepare_obeys_and_no_other_photo_moves(make_photos, go, tmp_path):
    raw = make_photos(40)
    go(raw, out="before")
    before = labels_and_splits(tmp_path / "before")
    moved = [path for path in sorted(before) if path.startswith("red/")][::2]
    gone = [path for path in sorted(before) if path.startswith("blue/")][:10]
    made = [LabelDecision(sha256_of(raw / path), "relabel", "blue", path) for path in moved]
    made += [LabelDecision(sha256_of(raw / path), "drop", "", path) for path in gone]
    made += [
        LabelDecision(sha256_of(raw / "red/001.png"), "keep"),
        LabelDecision(A, "drop", "", "elsewhere/1.jpg"),
    ]
    report = go(raw, *made, out="after")
    after = labels_and_splits(tmp_path / "after")
    assert report.decided == {"keep": 1, "relabel": 20, "drop": 10, "absent": 1}
    assert report.dropped == {"audit": 10}
    assert before.keys() - after.keys() == set(gone)
    for path, (label, split) in after.items():
        assert split == before[path][1]
        assert label == ("blue" if path in moved else before[path][0])
    assert sum(report.kept["red"].values()) == 20


def test_a_relabelled_photo_takes_no_place_in_a_split_of_a_small_class(make_photos, go, tmp_path):
    """If no hash of a class falls into test, its lowest one does; a relabelled photo may have a lower one."""
    for first in range(0, 5000, 12):
        raw = make_photos(12, first=first, folder=f"photos-{first}")
        blue, red = (sorted(map(sha256_of, (raw / name).iterdir())) for name in ("blue", "red"))
        if min(blue) > "1a" and red[1] < "19":  # 10 % of all hashes are below 1999...
            break
    go(raw, out="before")
    go(raw, LabelDecision(red[0], "relabel", "blue"), out="after")
    before, after = (labels_and_splits(tmp_path / folder) for folder in ("before", "after"))
    assert {path: split for path, (_, split) in before.items()} == {
        path: split for path, (_, split) in after.items()
    }


def test_a_decision_holds_if_the_photo_is_renamed_and_others_are_added(make_photos, go, tmp_path):
    raw = make_photos(40)
    made = [LabelDecision(sha256_of(raw / "red/000.png"), "relabel", "blue", "red/000.png")]
    (raw / "red/000.png").rename(raw / "red/rose.png")
    make_photos(20, first=40)
    go(raw, *made)
    assert labels_and_splits(tmp_path / "processed")["red/rose.png"][0] == "blue"


def test_a_relabelled_photo_contradicts_its_copy_no_more(make_photos, go, tmp_path):
    raw = make_photos(40)
    shutil.copy(raw / "red/000.png", raw / "blue/copy.png")
    assert go(raw).dropped == {"label_conflict": 2}
    made = LabelDecision(sha256_of(raw / "red/000.png"), "relabel", "red")
    assert go(raw, made).dropped == {"duplicate": 1}
    assert go(raw, LabelDecision(made.sha256, "drop")).dropped == {"audit": 2}


@pytest.mark.parametrize(
    ("decision", "label", "left"),
    [("drop", "", None), ("relabel", "red", "red"), ("keep", "", "blue"), ("keep", "blue", "blue")],
)
def test_a_decision_holds_for_photos_with_the_same_pixels(make_photos, go, tmp_path, decision, label, left):
    """A copy, saved again with other metadata, in the same class and in another one."""
    raw = make_photos(40)
    first = raw / "blue/000.png"
    copies = [raw / "blue/copy.png", raw / "red/copy.png"]
    for copy, text in zip(copies, ("a", "b"), strict=True):
        text_chunk = PngImagePlugin.PngInfo()
        text_chunk.add_text("Comment", text)
        with Image.open(first) as image:
            image.save(copy, pnginfo=text_chunk)
    if label == "blue":  # a copy has a decision of its own, which agrees
        made = [
            LabelDecision(sha256_of(first), "keep"),
            LabelDecision(sha256_of(copies[1]), "relabel", label),
        ]
    else:
        made = [LabelDecision(sha256_of(first), decision, label)]
    report = go(raw, *made)
    assert report.dropped == ({"duplicate": 2} if left else {"audit": 3})
    found = labels_and_splits(tmp_path / "processed")
    same = [found[path] for path in ("blue/000.png", "blue/copy.png", "red/copy.png") if path in found]
    assert [label for label, _ in same] == ([left] if left else [])
    assert report.decided["drop"] == (0 if left else 3)


def test_copies_with_decisions_that_contradict_each_other_conflict_as_before(make_photos, go):
    raw = make_photos(40)
    image = Image.open(raw / "blue/000.png")
    for number in (1, 2):
        note = PngImagePlugin.PngInfo()
        note.add_text("Comment", str(number))
        image.save(raw / f"blue/copy-{number}.png", pnginfo=note)
    made = [
        LabelDecision(sha256_of(raw / "blue/000.png"), "relabel", "red"),
        LabelDecision(sha256_of(raw / "blue/copy-1.png"), "keep"),
    ]
    assert go(raw, *made).dropped == {"label_conflict": 3}


def test_prepare_names_a_class_that_does_not_exist(make_photos, go):
    raw = make_photos(40)
    with pytest.raises(
        PipelineError, match=r"relabels red/000.png as 'rde', which is not a class; there are blue"
    ):
        go(raw, LabelDecision(sha256_of(raw / "red/000.png"), "relabel", "rde"))


def test_prepare_prints_what_it_obeyed(make_photos, run_ml, tmp_path):
    raw = make_photos(40).rename(tmp_path / "raw")
    (tmp_path / "data").mkdir()
    raw.rename(tmp_path / "data/raw")
    copy_params(tmp_path)
    done = run_ml("prepare", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "kept: blue 40, red 40; dropped: none\n")
    made = [LabelDecision(sha256_of(tmp_path / "data/raw/red/000.png"), "drop"), LabelDecision(A, "keep")]
    decisions.save(made, tmp_path / decisions.PATH)
    done = run_ml("prepare", folder=tmp_path)
    assert (
        "0 photos relabelled, 1 dropped, 0 kept; 1 decisions are about photos that are not here"
        in done.stdout
    )
    (tmp_path / decisions.PATH).write_text("nonsense")
    done = run_ml("prepare", folder=tmp_path)
    assert done.returncode == 1
    assert "label_decisions.csv, line 1: expected the columns" in done.stderr
