"""Every command explains itself with --help and does nothing else then."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ml.model import VERSION
from ml.model.errors import PipelineError
from scripts import command_reference, settings_reference
from tests.helpers.paths import ROOT

COMMANDS = list(command_reference.commands())


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True)


def changed_files() -> str:
    return subprocess.check_output(["git", "status", "--porcelain"], cwd=ROOT, text=True)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_explains_and_does_nothing(
    command: tuple[str, ...], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COLUMNS", "NO_COLOR", "PYTHONDONTWRITEBYTECODE"):  # which help_of sets
        monkeypatch.setenv(name, "")
    before = changed_files()
    text = command_reference.help_of(command)
    assert text.startswith(f"usage: python {' '.join(command)} ")
    if len(command) == 3 or command[1].startswith("scripts."):
        assert re.search(r"^examples?:$", text, re.MULTILINE)
    if len(command) == 3:
        module = importlib.import_module(f"{command[1]}.__main__").COMMANDS[command[2]][0]
        assert (importlib.import_module(module).__doc__ or "").splitlines()[0] in text
    assert capfd.readouterr() == ("", "")
    assert changed_files() == before


def test_a_command_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "")

    def broken(_: object) -> None:
        raise PipelineError("pydantic is not installed")

    monkeypatch.setattr("ml.set_params.configure", broken)
    with pytest.raises(SystemExit, match=r"^error: python -m ml params --help: error: pydantic is not"):
        command_reference.help_of(("-m", "ml", "params"))


@pytest.mark.parametrize(
    "command", [("-m", "ml", "params"), ("-m", "app"), ("-m", "scripts.growth")], ids=" ".join
)
def test_a_command_in_a_process_of_its_own_says_the_same(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "")
    expected = command_reference.help_of(command)
    done = python(*command, "--help")
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_every_kind_of_command_is_covered() -> None:
    assert {("-m", "app"), ("-m", "ml", "ingest"), ("-m", "scripts.command_reference")} <= set(COMMANDS)


def test_every_script_has_help() -> None:
    scripts = {
        file.stem
        for file in (ROOT / "scripts").glob("*.py")
        if 'if __name__ == "__main__"' in file.read_text("utf-8")
    }
    covered = {name.removeprefix("scripts.") for _, name, *_ in COMMANDS if name.startswith("scripts.")}
    assert scripts == covered


def test_the_service_has_a_version_and_takes_no_other_arguments(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=not-read\n")
    assert python("-m", "app", "--version", cwd=tmp_path).stdout == f"{VERSION}\n"
    done = python("-m", "app", "--help", cwd=tmp_path)
    assert (done.returncode, "docs/settings.md" in done.stdout) == (0, True)
    for argument in ("--port=80", "serve"):
        done = python("-m", "app", argument, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"unrecognized arguments: {argument}" in done.stderr


def test_the_table_of_settings_is_up_to_date() -> None:
    assert settings_reference.TARGET.read_text("utf-8") == settings_reference.table()


def test_a_document_that_is_out_of_date_fails_the_check(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from scripts.common.generated import write_or_check; "
        "sys.exit(write_or_check(lambda: 'new', Path(sys.argv[1]), 'It writes.', sys.argv[2:]))"
    )
    target = tmp_path / "document.md"
    assert python("-c", code, str(target), "--check").returncode == 1
    assert not target.exists()
    assert python("-c", code, str(target)).returncode == 0
    assert target.read_text() == "new"
    assert python("-c", code, str(target), "--check").returncode == 0
