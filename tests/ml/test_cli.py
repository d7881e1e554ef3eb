"""The commands of `python -m ml`, and how they end."""

import importlib

import pytest

from ml.__main__ import COMMANDS
from ml.cli import run
from ml.model.errors import PipelineError


@pytest.mark.parametrize("command", ["ingest", "predict"])
def test_help_explains_every_argument_and_does_nothing_else(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="0"):
        run("ml", "", COMMANDS, [command, "--help"])
    text = capsys.readouterr().out
    module = importlib.import_module(COMMANDS[command][0])
    assert (module.__doc__ or "").splitlines()[0] in text
    assert text.endswith(f"example:\n  {module.EXAMPLE}\n")
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


def test_the_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        run("ml", "", COMMANDS, ["--version"])
    assert capsys.readouterr().out.strip()
