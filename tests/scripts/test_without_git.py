"""The project in a folder that is not a Git repository."""

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.checkout import copied


def test_dvc_works_and_uses_git_once_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(copied(tmp_path / "project"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert "is not a git repository" in run("dvc", "status").stderr
    for _ in range(2):
        done = run("scripts/without_git.sh")
        assert (done.returncode, done.stdout) == (0, "")
        assert "git init" in done.stderr
    assert run("dvc", "status", "ingest").returncode == 0
    run("git", "init", "-q")
    done = run("scripts/without_git.sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "no_scm" not in Path(".dvc/config.local").read_text()
