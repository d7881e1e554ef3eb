"""The commands of `python -m ml`, and how they end."""

import argparse
import sys

import pytest

from ml.__main__ import COMMANDS
from ml.cli import run, whole_number
from ml.data import ingest
from ml.model.errors import PipelineError


def test_help_shows_the_description_and_an_example_and_does_nothing_else(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        run("ml", "", COMMANDS, ["ingest", "--help"])
    text = capsys.readouterr().out
    assert (ingest.__doc__ or "").splitlines()[0] in text
    assert text.endswith(f"example:\n  {ingest.EXAMPLE}\n")
    assert list(tmp_path.iterdir()) == []


def test_errors_for_people_are_one_line(monkeypatch, capsys):
    def fail(_: object) -> None:
        raise PipelineError("the photos are missing")

    monkeypatch.setattr("ml.data.ingest.main", fail)
    with pytest.raises(SystemExit, match="error: the photos are missing"):
        run("ml", "", COMMANDS, ["ingest"])
    with pytest.raises(SystemExit, match="2"):
        run("ml", "", COMMANDS, ["nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run("ml", "", COMMANDS, [])


def test_a_file_that_cannot_be_read_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("ml.data.ingest.main", lambda _: (tmp_path / "gone").read_bytes())
    with pytest.raises(SystemExit, match=r"error: .*gone: No such file or directory"):
        run("ml", "", COMMANDS, ["ingest"])


@pytest.mark.parametrize(
    ("package", "command", "hint"),
    [
        ("ml", "train", "make dev"),
        ("release", "publish", "make deploy-tools"),
        ("release", "gate", "make dev"),
        ("deploy", "docker", "make deploy-tools"),
    ],
)
def test_a_missing_package_is_one_line(monkeypatch, tmp_path, package, command, hint):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    monkeypatch.delitem(sys.modules, "ml.params", raising=False)
    with pytest.raises(SystemExit, match=f"^error: pydantic is not installed: `{hint}` installs it$"):
        run(package, "", {command: ("ml.params", "")}, [command])
    (tmp_path / ".venv").mkdir()
    with pytest.raises(SystemExit, match=r"^error: pydantic is missing in .*, which is not \.venv"):
        run(package, "", {command: ("ml.params", "")}, [command])


def test_a_missing_module_of_the_project_is_a_fault():
    with pytest.raises(ModuleNotFoundError):
        run("ml", "", {"train": ("ml.no_such_module", "")}, ["train"])


def test_the_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        run("ml", "", COMMANDS, ["--version"])
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("text", ["-1", "11", "x", "", "1.0", "²", "9" * 10_000, "0" * 20 + "9"])
def test_a_number_out_of_its_range(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number from 0 to 10, not"):
        whole_number(0, 10)(text)
    assert [whole_number(0, 10)(right) for right in ("0", "07", "10")] == [0, 7, 10]
