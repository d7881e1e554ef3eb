"""The dataset: what it was begun with, its parts, and its counts."""

import contextlib
import errno
import json
import pickle
import sqlite3
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml.model.errors import PipelineError
from ml.scoring.output import Output
from ml.scoring.scorer import SCHEMA
from tests.helpers.paths import ROOT

MODEL = "a" * 64


def rows(*paths, error=None):
    label = None if error else "red"
    plain = [{"path": path, "label": label, "error": error, "model_version": "1"} for path in paths]
    return pa.Table.from_pylist(plain, SCHEMA)


@pytest.fixture
def begin(tmp_path):
    with contextlib.ExitStack() as stack:

        def make(source="/photos", out="out", **options):
            retry = options.pop("retry_errors", False)
            output = stack.enter_context(Output(str(tmp_path / out), **options))
            output.begin(source, MODEL, retry)
            return output

        yield make


@pytest.mark.parametrize("out", ["labels.parquet", "labels.parquet/out"])
def test_a_file_in_place_of_the_folder(begin, tmp_path, out):
    (tmp_path / "labels.parquet").write_bytes(b"mine")
    with pytest.raises(PipelineError, match=f"/{out} can't be a folder: a file is in the way"):
        begin(out=out)
    assert (tmp_path / "labels.parquet").read_bytes() == b"mine"


def test_a_second_run_adds_what_is_missing(begin, tmp_path):
    with begin(part_rows=2) as output:
        assert list(output.remaining(["a", "b", "a", "c"])) == ["a", "b", "c"]
        output.write(rows("a"))
        output.write(rows("b", error="broken"))
        assert len(list((tmp_path / "out").glob("*.parquet"))) == 1
        output.write(rows("c"))
    del output
    with begin() as again:
        assert again.present() == 3
        assert list(again.remaining(["c", "d", "a", "b", "d"])) == ["d"]
        again.write(rows("d"))
        summary = again.summary()
    assert (summary.listed, summary.rows, summary.scored) == (4, 4, 1)
    assert summary.complete
    assert summary.labels == {"red": 3}
    assert summary.errors == {"broken": 1}
    assert pq.read_table(tmp_path / "out").schema.equals(SCHEMA)


def test_rows_are_written_in_time_while_other_photos_take_long(begin, tmp_path, monkeypatch):
    with begin() as output:
        output.write(rows("a"))
        monkeypatch.setattr("ml.scoring.output.PART_S", 0.0)
        for _ in range(2):
            output.write(rows())
            (part,) = (tmp_path / "out").glob("*.parquet")
        assert pq.read_metadata(part).num_rows == 1


def test_photos_without_a_row_and_with_two_are_counted(begin):
    with begin() as output:
        list(output.remaining(["a", "b"]))
        output.write(rows("a", "a", "elsewhere"))
        summary = output.summary()
    assert (summary.missing, summary.doubled, summary.rows, summary.complete) == (1, 1, 3, False)


def test_each_label_is_counted_and_not_too_many_errors(begin):
    plain = [{"path": f"{n}", "label": f"class {n}", "error": None, "model_version": "1"} for n in range(150)]
    failed = [
        {"path": f"e{n}", "label": None, "error": f"error {n}", "model_version": "1"} for n in range(150)
    ]
    with begin() as output:
        list(output.remaining(row["path"] for row in plain + failed))
        output.write(pa.Table.from_pylist(plain + failed, SCHEMA))
        summary = output.summary()
    assert (len(summary.labels), len(summary.errors)) == (150, 101)
    assert summary.errors["other"] == 50


def test_errors_can_be_scored_again(begin, tmp_path):
    with begin(part_rows=1) as output:
        output.write(rows("a", "b"))
        output.write(rows("c", error="no connection"))
    del output
    with begin(retry_errors=True) as again:
        assert sorted(again.remaining("abc")) == ["c"]
        assert len(list((tmp_path / "out").glob("*.parquet"))) == 1


def test_another_source_or_model_or_folder_is_refused(begin, tmp_path):
    with begin():
        pass
    with pytest.raises(PipelineError, match="begun with another source"):
        begin("/other")
    with (
        Output(str(tmp_path / "out")) as other,
        pytest.raises(PipelineError, match="begun with another model"),
    ):
        other.begin("/photos", "f" * 64)
    (tmp_path / "taken").mkdir()
    others = [tmp_path / "taken" / name for name in ("a.txt", ".film.mkv.part", ".part-x.parquet.1.part")]
    for file in others:
        file.write_text("mine")
    with pytest.raises(PipelineError, match="has files of something else"):
        begin(out="taken")
    assert all(file.exists() for file in others)
    (tmp_path / "file").write_text("")
    with pytest.raises(PipelineError, match="file"):
        begin(out="file")
    (tmp_path / "out/_scoring.json").write_text(json.dumps([]))
    with pytest.raises(PipelineError, match="out"):
        begin()


def test_a_damaged_part_is_named(begin, tmp_path):
    with begin() as output:
        output.write(rows("a"))
    del output
    (part,) = (tmp_path / "out").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(PipelineError, match=part.name):
        begin()


def test_what_a_killed_run_left_is_removed(begin, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/._scoring.json.1.part").write_bytes(b"{")
    (tmp_path / "out/.part-x.parquet.1.part").write_bytes(b"half")
    with begin():
        assert [file.name for file in (tmp_path / "out").iterdir()] == ["_scoring.json"]


def test_two_runs_do_not_write_at_once(begin, tmp_path):
    pytest.importorskip("fcntl")
    code = (
        "import sys; from ml.scoring.output import Output; Output(sys.argv[1]).begin('/photos', sys.argv[2])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out"), MODEL]
    with begin():
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "is being written by another run" in done.stderr


def test_its_temporary_database_is_closed(begin):
    with begin() as output:
        assert output.present() == 0
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        output.present()


def test_a_full_disk_of_its_temporary_database_is_reported_as_one_of_files(begin):
    with begin() as output:
        output._ledger._database.execute("PRAGMA max_page_count = 3")
        with pytest.raises(OSError, match="TMPDIR") as failed:
            list(output.remaining(map(str, range(1000))))
        assert failed.value.errno == errno.ENOSPC


def test_a_copy_in_another_process_writes_parts(begin, tmp_path):
    with begin() as output:
        pickle.loads(pickle.dumps(output)).write_part(rows("a"))
        list(output.remaining("a"))
        assert output.summary().complete


@pytest.mark.parametrize("address", ["ftp://example.org/answers", "https://example.org/answers"])
def test_an_address_of_no_store(address):
    with pytest.raises(PipelineError, match=address):
        Output(address)
