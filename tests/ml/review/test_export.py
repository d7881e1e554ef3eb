"""Reviewed photos become photos of the data set, once, and can be found again."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ml import set_params
from ml.collected.store import Collected
from ml.data import collected, ingest, prepare, reviewed
from ml.data.dataset import Dataset
from ml.data.licences import collections_of
from ml.data.locks import locked
from ml.evaluation.features import load_ood_photos
from ml.model.errors import PipelineError
from ml.params import Ingest, Params
from ml.review.collected_items import CollectedItems
from ml.review.export import COMMANDS, Export, export
from ml.review.items import Choice
from tests.conftest import BLUE, coloured, encode, needs
from tests.helpers.params import copy_params
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S
from tests.ml.conftest import Done
from tests.ml.review.conftest import kept

Review = Callable[..., CollectedItems]


def decide_all(items: CollectedItems, **choices: Choice) -> None:
    """Decide about photos by their number, as in `_1=`."""
    for item in items.items:
        if choice := choices.get(f"_{int(item.id, 16)}"):
            items.decide(item, choice)


def go(store: Path) -> Export:
    source = Collected(str(store))
    return export(source, {record.id: record for record in source.records()}, reviewed.load(undone=True))


def files() -> list[str]:
    return sorted(path.relative_to("collected").as_posix() for path in Path("collected").rglob("*.*"))


def name(number: int) -> str:
    return f"collected_2026-11-27_{number:032x}.jpg"


RED, NONE, DISCARD = Choice("label", "red"), Choice("none"), Choice("discard")


def test_photos_join_their_classes_and_the_others(
    store: Path, review: Review, make_photos: Callable[..., Path], params: Params
) -> None:
    for number in range(30):
        kept(store, number)
    items = review()
    labels = {f"_{number}": Choice("label", "blue" if number % 2 else "red") for number in range(2, 28)}
    decide_all(items, **labels, _0=NONE, _1=NONE, _28=DISCARD)
    assert go(store) == Export({"red": 13, "blue": 13, "": 2}, 0, 0, 0, 28)
    before = {path: Path("collected", path).stat().st_mtime_ns for path in files()}
    listed = collected.PATH.read_bytes()
    assert go(store) == Export({}, 0, 0, 0, 28)  # once more
    assert {path: Path("collected", path).stat().st_mtime_ns for path in files()} == before
    assert collected.PATH.read_bytes() == listed

    photos = make_photos(20)
    report = ingest.run(Ingest(source=str(photos), sha256=""))
    assert (report.classes, report.collected) == ({"blue": 33, "red": 33}, 26)
    prepare.run(params.prepare)
    data = Dataset.load()
    labels = {
        path.rpartition("/")[2]: data.classes[label]
        for path, label in zip(data.paths, data.labels, strict=True)
    }
    assert labels[name(2)] == "red"
    assert labels[name(3)] == "blue"
    assert name(0) not in labels
    assert collected.periods_of(data.paths) == {"2026-11": 26}
    assert list(collections_of(data.paths, "oxford-pets").values()) == [40, 26]
    others = load_ood_photos("", 32, "center_crop")
    assert others is not None
    assert others.shape == (2, 32, 32, 3)
    more = load_ood_photos(str(photos), 32, "center_crop")
    assert more is not None
    assert len(more) == 42


def test_a_near_duplicate_does_not_cross_the_splits(
    store: Path, review: Review, make_photos: Callable[..., Path], params: Params
) -> None:
    photos = make_photos(60)
    for number in range(60):
        kept(store, number, encode(coloured((200, 70, 70), seed=2 * number + 1), quality=95))
    items = review()
    for item in items.items:
        items.decide(item, RED)
    go(store)
    ingest.run(Ingest(source=str(photos), sha256=""))
    report = prepare.run(params.prepare.model_copy(update={"near_duplicate_bits": 16}))
    assert report.dropped["near_duplicate"]


def test_a_changed_decision_moves_or_removes_the_photo(store: Path, review: Review) -> None:
    for number in range(4):
        kept(store, number)
    items = review()
    decide_all(items, _0=RED, _1=RED, _2=NONE, _3=RED)
    go(store)
    assert files() == [f"other/{name(2)}", *(f"photos/red/{name(number)}" for number in (0, 1, 3))]
    decide_all(items, _0=Choice("label", "blue"), _1=DISCARD, _2=RED)
    for path in store.rglob("*"):  # a retention rule; the exported photos stay
        path.unlink() if path.is_file() else None
    assert go(store) == Export({}, 2, 1, 0, 3)
    assert files() == [f"photos/blue/{name(0)}", f"photos/red/{name(2)}", f"photos/red/{name(3)}"]
    assert [photo.path.as_posix() for photo in collected.load()] == [
        f"photos/blue/{name(0)}", f"photos/red/{name(2)}", f"photos/red/{name(3)}"
    ]  # fmt: skip


def test_a_lost_file_of_decisions_removes_nothing_and_an_undone_one_does(store: Path, review: Review) -> None:
    for number in range(2):
        kept(store, number)
    items = review()
    decide_all(items, _0=RED, _1=RED)
    go(store)
    items.decide(items.items[0], None)
    decisions = reviewed.PATH.read_bytes()
    reviewed.PATH.unlink()
    assert go(store) == Export({}, 0, 0, 0, 2)
    reviewed.PATH.write_bytes(decisions)
    assert go(store) == Export({}, 0, 1, 0, 1)
    assert len(files()) == 1


def test_a_photo_that_is_not_the_reviewed_one_is_left_out(store: Path, review: Review) -> None:
    for number in range(3):
        kept(store, number)
    decide_all(review(), _0=RED, _1=RED, _2=RED)
    kept(store, 0, encode(coloured(BLUE, seed=99)))  # another one, with a record that fits
    (store / "2026-11-27" / f"{1:032x}.json").unlink()
    assert go(store) == Export({"red": 1}, 0, 0, 2, 1)
    assert files() == [f"photos/red/{name(2)}"]


def test_another_photo_with_the_id_of_an_exported_one_replaces_it(store: Path, review: Review) -> None:
    kept(store, 0)
    decide_all(review(), _0=RED)
    go(store)
    other = kept(store, 0, encode(coloured(BLUE, seed=99)))
    (entry,) = reviewed.load().values()
    reviewed.append([dataclasses.replace(entry, sha256=other.sha256, label="blue")])
    assert go(store) == Export({}, 1, 0, 0, 1)
    assert files() == [f"photos/blue/{name(0)}"]
    collected.load()[0].read()  # would fail if the file were not the one that the list names


def test_what_the_list_names_must_be_there(
    store: Path, review: Review, make_photos: Callable[..., Path]
) -> None:
    kept(store, 0)
    decide_all(review(), _0=RED)
    go(store)
    source = Ingest(source=str(make_photos(12)), sha256="")
    exported = Path("collected/photos/red") / name(0)
    content = exported.read_bytes()
    exported.write_bytes(b"another")
    with pytest.raises(PipelineError, match=r"is not the photo that collected\.csv lists"):
        ingest.run(source)
    exported.unlink()
    with pytest.raises(PipelineError, match=r"`dvc pull collected\.dvc`"):
        ingest.run(source)
    exported.write_bytes(content)
    assert ingest.run(source).classes == {"blue": 12, "red": 13}
    photo = collected.load()[0]
    collected.save(
        [collected.CollectedPhoto(photo.id, photo.day, "green", photo.sha256, photo.answer, photo.request)]
    )
    Path("collected/photos/green").mkdir()
    (Path("collected/photos/green") / name(0)).write_bytes(content)
    with pytest.raises(PipelineError, match=r"photos of 'green', but .* has no such class"):
        ingest.run(source)


def test_without_the_photos_that_it_lists_nothing_is_changed(store: Path, review: Review) -> None:
    """In a checkout without `dvc pull`, DVC would take the new files for the whole folder."""
    for number in range(3):
        kept(store, number, request_id=f"request-{number}.{'A' * 32}")
    decide_all(review(), _0=RED, _1=RED)
    go(store)
    content, listed = (Path("collected/photos/red") / name(0)).read_bytes(), collected.PATH.read_text()
    decide_all(review(), _2=RED)
    (Path("collected/photos/red") / name(0)).unlink()
    for change in (lambda: go(store), lambda: reviewed.check_delete(["request-1"])):
        with pytest.raises(PipelineError, match=r"is missing: type `dvc pull collected\.dvc`"):
            change()
    assert (files(), collected.PATH.read_text()) == ([f"photos/red/{name(1)}"], listed)
    reviewed.check_delete(["request-0"])  # whose file is gone: an earlier try may have been killed
    shutil.rmtree("collected")
    with pytest.raises(PipelineError, match="is missing: type"):
        reviewed.check_delete(["request-0"])
    Path("collected/photos/red").mkdir(parents=True)
    for number in range(2):
        (Path("collected/photos/red") / name(number)).write_bytes(content)
    assert go(store).added == {"red": 1}


def test_what_a_killed_export_left_is_removed(store: Path, review: Review) -> None:
    for number in range(2):
        kept(store, number)
    decide_all(review(), _0=RED, _1=Choice("label", "blue"))
    go(store)
    for label, number in (("blue", 0), ("red", 1)):  # of other decisions, before it wrote the list
        shutil.copy(
            Path("collected/photos", "red" if label == "blue" else "blue", name(number)),
            Path("collected/photos", label),
        )
    go(store)
    assert files() == [f"photos/blue/{name(1)}", f"photos/red/{name(0)}"]
    shutil.copy(Path("collected/photos/red", name(0)), Path("collected/photos/blue"))
    deleted = reviewed.delete([f"{0:032x}"])
    assert len(deleted) == 2
    assert files() == [f"photos/blue/{name(1)}"]


def test_the_command_exports_and_prints_figures(
    store: Path, review: Review, run_ml: Callable[..., Done], tmp_path: Path
) -> None:
    copy_params(tmp_path)
    for number in range(4):
        kept(store, number, reasons=("random",))
    (store / "2026-11-27" / f"{9:032x}.json").write_text("{}")
    decide_all(review(), _0=RED, _1=RED, _2=DISCARD)
    figures = json.loads(run_ml("review", "--figures", folder=tmp_path).stdout)
    assert figures["decided"] == 3
    assert (figures["new"], figures["exported"]) == (2, 0)
    assert figures["accuracy"]["value"] == 0.5
    assert figures["versions"]["v1"]["photos"] == 2
    done = run_ml("review", store, "--export", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "collected.csv: 2 photos; added: red 2;" in done.stdout
    assert "dvc add collected\n" in done.stdout
    assert f"left out: 2026-11-27/{9:032x}.json: " in done.stderr
    figures = json.loads(run_ml("review", "--figures", folder=tmp_path).stdout)
    assert (figures["new"], figures["exported"]) == (0, 2)


def test_a_sender_can_have_an_exported_photo_deleted(
    store: Path, review: Review, run_ml: Callable[..., Done], tmp_path: Path
) -> None:
    for number in range(3):
        kept(store, number, request_id=f"request-{number}.{'A' * 32}")
    decide_all(review(), _0=RED, _1=RED, _2=RED)
    go(store)
    (store / "2026-11-27" / f"{1:032x}.json").unlink()  # a retention rule
    with locked(collected.PATH):  # an export would list the photo again
        done = run_ml("collected", store, "--delete", "request-0", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "another process is writing collected.csv" in done.stderr
    # The first by the id in its answer, the second by X-Request-ID.
    for number, end in ((0, f".{'A' * 32}"), (1, "")):
        done = run_ml("collected", store, "--delete", f"request-{number}{end}", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"deleted collected/photos/red/{name(number)}: type `dvc add collected`" in done.stdout
    assert files() == [f"photos/red/{name(2)}"]
    assert [photo.id for photo in collected.load()] == [f"{2:032x}"]
    assert list(reviewed.load()) == [f"{2:032x}"]
    assert go(store) == Export({}, 0, 0, 0, 1)


def test_wrong_usage(tmp_path: Path, run_ml: Callable[..., Done]) -> None:
    copy_params(tmp_path)
    assert "SOURCE is missing" in run_ml("review", folder=tmp_path).stderr
    assert run_ml("review", "nowhere", folder=tmp_path).returncode == 1
    assert run_ml("review", ".", "--host", "example.org", folder=tmp_path).returncode == 2


@pytest.mark.slow
@needs("git")
def test_the_printed_commands_track_the_photos(
    store: Path, review: Review, make_photos: Callable[..., Path], tmp_path: Path
) -> None:
    """In a repository with the stages and the .gitignore of this one."""
    for name in (".gitignore", ".dvcignore", "dvc.yaml", "label_decisions.csv"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("model", "data"):
        shutil.copytree(ROOT / "ml" / name, tmp_path / "ml" / name)
    shutil.copy(ROOT / "ml/__init__.py", tmp_path / "ml")
    for module in ("__main__.py", "cli.py", "params.py", "paths.py", "set_params.py"):
        shutil.copy(ROOT / "ml" / module, tmp_path / "ml")
    set_params.assign({"ingest.source": str(make_photos(12))}, copy_params(tmp_path))
    kept(store, 0)
    decide_all(review(), _0=RED)
    go(store)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    identity = "-c user.name=x -c user.email=x@example.org"
    commands = [
        "git init -q", "dvc init -q", "dvc remote add -d store ../remote", "git add -A",
        *COMMANDS.replace("git commit", f"git {identity} commit").splitlines()[:-1],
        "rm -rf collected .dvc/cache", "dvc pull collected.dvc", "dvc repro ingest",
    ]  # fmt: skip
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S, check=False,
            env={"PATH": path, "HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    tracked = subprocess.check_output(["git", "ls-files"], cwd=tmp_path, text=True).splitlines()
    assert {"collected.dvc", "collected.csv", "collected_decisions.csv"} <= set(tracked)
    assert not [name for name in tracked if name.startswith("collected/")]
    assert len(list((tmp_path / "data/raw/red").iterdir())) == 13
