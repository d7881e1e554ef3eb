"""What a model's description says about the code and the parameters that made it, in a real repository."""

import os
import subprocess
from pathlib import Path

import pytest

from ml import set_params
from ml.tracking.provenance import dataset_md5, git_commit, parameters_changed, publishable
from tests.helpers.params import copy_params


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "test@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    copy_params(folder)
    (folder / "code.py").write_text("one\n")
    for name in ("label_decisions.csv", "collected.csv", "collected_decisions.csv", "collected.dvc"):
        (folder / name).touch()
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "start")
    return folder


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def test_other_parameters_leave_the_commit_clean_and_are_recorded(repository):
    commit = git("rev-parse", "HEAD").strip()
    assert (git_commit(), parameters_changed()) == (commit, {})
    set_params.assign({"ingest.source": "/home/somebody/my photos", "train.seed": "7"}, Path("params.yaml"))
    (repository / "dvc.lock").write_text("schema: '2.0'\n")
    for name in ("label_decisions.csv", "collected.csv", "collected_decisions.csv", "collected.dvc"):
        (repository / name).write_text("a review\n")
    (repository / "notes.txt").write_text("a file that git does not track\n")
    assert git_commit() == commit
    assert parameters_changed() == {"ingest.source": "my photos", "train.seed": 7}
    git("add", "params.yaml", "dvc.lock")
    assert git_commit() == commit  # also if they are staged
    git("commit", "-qm", "other parameters")
    assert git_commit() == git("rev-parse", "HEAD").strip() != commit
    assert parameters_changed() == {}
    set_params.assign(
        {"ingest.source": "https://me:secret@example.org/a.zip?token=secret"}, Path("params.yaml")
    )
    assert parameters_changed() == {"ingest.source": "https://example.org/a.zip"}


def test_secrets_in_sources_are_not_published():
    url = "https://me:secret@example.org/a.zip?token=secret"
    params = {"ingest.source": url, "evaluate.other": f"/home/secret/{url[:4]}", "train.seed": 7}
    shown = {"ingest.source": "https://example.org/a.zip", "evaluate.other": "http", "train.seed": 7}
    assert publishable(params) == shown


def test_other_code_makes_it_dirty(repository):
    commit = git_commit()
    os.utime(repository / "code.py", (1, 1))  # touched, not changed
    assert git_commit() == commit
    (repository / "code.py").write_text("two\n")
    assert git_commit() == f"{commit}-dirty"
    git("add", "code.py")
    assert git_commit() == f"{commit}-dirty"


def test_the_md5_of_the_photos_in_dvc_lock(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert dataset_md5() == ""
    lock = "stages:\n  ingest:\n    outs:\n    - md5: abc.dir\n"
    Path("dvc.lock").write_text(lock)
    assert dataset_md5() == "abc.dir"
    Path("dvc.lock").write_text(f"<<<<<<< HEAD\n{lock}=======\n{lock}>>>>>>> other\n")
    assert dataset_md5() == ""


def test_a_new_module_makes_it_dirty(repository):
    commit = git_commit()
    (repository / ".gitignore").write_text("__pycache__/\n")
    cache = repository / "ml/networks/__pycache__"
    cache.mkdir(parents=True)
    (cache / "new.pyc").write_bytes(b"")
    assert git_commit() == commit
    (repository / "ml/networks/new.py").write_text("one\n")
    assert git_commit() == f"{commit}-dirty"


def test_a_project_in_a_folder_of_a_repository(repository, monkeypatch):
    (repository / "inner").mkdir()
    copy_params(repository / "inner")
    git("add", ".")
    git("commit", "-qm", "inner")
    commit = git_commit()
    monkeypatch.chdir(repository / "inner")
    set_params.assign({"train.seed": "7"}, Path("params.yaml"))
    assert (git_commit(), parameters_changed()) == (commit, {"train.seed": 7})
    (repository / "code.py").write_text("two\n")
    assert git_commit() == f"{commit}-dirty"


def test_without_a_repository_or_a_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    copy_params(tmp_path)
    assert (git_commit(), parameters_changed()) == ("", {})
    git("init", "-q")
    assert (git_commit(), parameters_changed()) == ("", {})
