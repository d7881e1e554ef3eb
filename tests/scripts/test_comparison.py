"""What the workflows compare.yml and comment.yml do, with real git and DVC."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.comparison import render
from tests.helpers.checkout import copied

GIT = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
GH = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1] == "api":
    print(os.environ["NUMBER"])
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    folder = copied(tmp_path / "project")
    monkeypatch.chdir(folder)
    for name, value in GIT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    subprocess.run(["git", "init", "-q"], check=True)
    return folder


def commit(accuracy: float | None, seed: int, trained_seed: int, photos: int = 100) -> None:
    """Commit what a training leaves."""
    params = Path("params.yaml")
    lines = [
        f"  seed: {seed}" if line.startswith("  seed:") else line for line in params.read_text().splitlines()
    ]
    params.write_text("\n".join(lines) + "\n")
    if accuracy is not None:
        Path("metrics").mkdir(exist_ok=True)
        Path("metrics/evaluate.json").write_text(json.dumps({"accuracy": accuracy, "log_loss": 0.1}))
        train = {
            "cmd": "x",
            "params": {"params.yaml": {"train": yaml.safe_load(params.read_text())["train"]}},
        }
        train["params"]["params.yaml"]["train"] |= {"seed": trained_seed}
        outs = [{"path": "data/raw", "hash": "md5", "md5": f"{photos}.dir", "size": 1, "nfiles": photos}]
        stages = {"ingest": {"cmd": "x", "outs": outs}, "train": train}
        Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    subprocess.run(["git", "add", "."], check=True)
    subprocess.run(["git", "commit", "-qm", "x"], check=True)


def compare() -> str:
    done = subprocess.run(["scripts/compare.sh"], capture_output=True, text=True, check=True)
    return done.stdout


def test_parameters_data_and_metrics_are_compared(project):
    commit(0.9, 20, 20)
    commit(0.95, 7, 7, photos=110)
    text = compare()
    assert "| `params.yaml: train.seed` | `20` | `7` |" in text
    assert "| `metrics/evaluate.json: accuracy` | `0.9` | `0.95` | `0.05` |" in text
    assert "| `data` | `100 photos, 100.dir` | `110 photos, 110.dir` |" in text
    assert "log_loss" not in text
    assert "not of these parameters" not in text
    subprocess.run(["git", "clone", "-q", "--depth", "2", f"file://{project}", "shallow"], check=True)
    os.chdir("shallow")  # as the workflow checks it out
    Path(".venv").symlink_to(sys.prefix)
    assert compare() == text


def test_results_of_other_parameters_are_named(project):
    commit(0.9, 20, 20)
    commit(0.9, 7, 20)
    assert "not of these parameters**: `train` changed since" in compare()


def test_without_results(project):
    commit(None, 20, 20)
    commit(None, 7, 7)
    text = compare()
    assert "There is no `dvc.lock`" in text
    assert "| `params.yaml: train.seed` | `20` | `7` |" in text


def test_a_hostile_comparison_is_shown_as_code():
    hostile = "`@everyone` <img src=x> | [link](https://example.org)\n# big\u202e" + "x" * 1000
    text = render(
        {"trained": True, "stale": [hostile], "params": {hostile: {hostile: {"old": hostile, "new": 1}}}}
    )
    *_, row = text.splitlines()
    assert row.count("|") == 5
    for part in text.split("`")[::2]:  # outside of the code
        assert "@" not in part
        assert "<" not in part
        assert "[" not in part
    many = {"f": {str(number): {"old": 0, "new": 1} for number in range(1000)}}
    assert len(render({"trained": True, "metrics": many}).splitlines()) < 110


@pytest.mark.parametrize("content", ["", "[]", '{"params": 3}', '{"stale": 5, "trained": 1}', "[" * 100_000])
def test_another_file_is_rejected(tmp_path, content):
    (tmp_path / "file").write_text(content)
    script = Path(__file__).parents[2] / "scripts/comparison.py"
    command = [sys.executable, "-S", script, "render", tmp_path / "file"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", ["12", ""])
def test_the_comment_goes_to_the_pull_request_of_the_commit(project, tmp_path, number):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text(GH)
    (tmp_path / "bin/gh").chmod(0o755)
    Path("comparison").mkdir()
    Path("comparison/comparison.json").write_text('{"trained": true}')
    env = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "NUMBER": number,
    }
    env |= {"GITHUB_REPOSITORY": "a/b", "HEAD_OWNER": "c", "HEAD_BRANCH": "x&y=$(z)", "HEAD_SHA": "0" * 40}
    subprocess.run(["scripts/comment.sh"], env=env, check=True)
    api, *comments = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert "head=c:x&y=$(z)" in api
    if number:
        assert comments == [
            [
                "pr",
                "comment",
                "12",
                "--repo",
                "a/b",
                "--edit-last",
                "--create-if-none",
                "--body-file",
                "comment.md",
            ]
        ]
        assert "Nothing differs." in Path("comment.md").read_text()
    else:
        assert comments == []
