"""`dvc repro` in a fresh clone: all stages, then none, then those that a parameter affects; push and pull."""

import ast
import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ml import params
from ml.__main__ import COMMANDS
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.paths import ROOT


def run(folder: Path, *command: str) -> str:
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.org",
    }  # fmt: skip
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def clone(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "pull.sh", folder / "scripts")
    shutil.copytree(ROOT / "ml", folder / "ml", ignore=shutil.ignore_patterns("__pycache__"))
    for name, colour in (("blue", BLUE), ("red", RED)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(60):
            photo = coloured(colour, seed=number * 2 + (name == "red"))
            (tmp_path / "photos" / name / f"{number}.png").write_bytes(encode(photo, "PNG"))
    small = {
        "ingest.source": str(tmp_path / "photos"),
        "prepare.image_size": "32",
        "prepare.near_duplicate_bits": "-1",
        "train.arch": "simple_cnn",
        "train.precision": "32-true",
        "recipes.simple_cnn.epochs": "3",
        "recipes.simple_cnn.batch_size": "16",
        "recipes.simple_cnn.first_image_size": "0",
        "evaluate.resamples": "50",
        "package.calibration_photos": "16",
        "package.max_accuracy_drop": "0.1",
        "package.max_mean_difference": "0.1",
        "package.min_accuracy": "0.8",
    }
    params.assign(small, folder / "params.yaml")
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", ".")
    run(folder, "git", "commit", "-qm", "start")
    return folder


def imported(module: str, seen: set[str]) -> set[str]:
    """Add a module and all modules of `ml` that it imports, directly or not, also inside functions."""
    if module in seen or (spec := importlib.util.find_spec(module)) is None or not spec.origin:
        return seen
    seen.add(module)
    for node in ast.walk(ast.parse(Path(spec.origin).read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.partition(".")[0] == "ml" and (ROOT / name.replace(".", "/")).parent.is_dir():
                with contextlib.suppress(ModuleNotFoundError):  # a name of a module that is no package
                    imported(name, seen)
    return seen


STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NOT_OUTPUT = {"ml", "ml.cli", "ml.params", "ml.paths"}  # and tracking


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "register"])
def test_a_stage_depends_on_all_code_that_it_imports(stage):
    command = STAGES[stage]["cmd"].split()
    assert command == ["python", "-m", "ml", stage]
    modules = imported(COMMANDS[stage][0], set())
    modules = {name for name in modules - NOT_OUTPUT if not f"{name}.".startswith("ml.tracking.")}
    folders = [dep for dep in STAGES[stage]["deps"] if dep.startswith("ml/")]
    covered = {
        name: [f for f in folders if f"{name.replace('.', '/')}/".startswith(f"{f}/")] for name in modules
    }
    assert [name for name, by in covered.items() if not by] == []
    assert {folder for by in covered.values() for folder in by} == set(folders)  # and on no other code


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def outdated(clone: Path) -> list[str]:
    """The stages that `dvc repro` would start with."""
    return [line.rstrip(":") for line in run(clone, "dvc", "status").splitlines() if re.match(r"\w+:$", line)]


def test_repro_change_push_and_pull(clone, tmp_path):
    first = run(clone, "dvc", "repro")
    assert stages_run(first) == ["ingest", "prepare", "train", "evaluate", "package", "register"]
    assert (clone / "models" / "model.pt").is_file()
    assert re.search(
        r"^models/model\.pt: version \w{12}, accuracy [\d.]+ % .* on \d+ test photos; ", first, re.MULTILINE
    )
    assert "Warning" not in first  # that would worry, and tell nothing
    assert outdated(clone) == ["register"]
    for parameter, stages in {
        "recipes.efficientnet_lite0.epochs=9": [],  # the recipe of another architecture
        "package.half=false": ["package"],
        "stability.max_flips.grey=0.04": ["package"],
        "evaluate.resamples=60": ["evaluate"],
    }.items():
        before = (clone / "params.yaml").read_text()
        params.assign(dict([parameter.split("=")]), clone / "params.yaml")
        assert outdated(clone) == [*stages, "register"], parameter
        (clone / "params.yaml").write_text(before)

    assert "no DVC remote" in run(clone, "scripts/pull.sh")
    run(clone, "dvc", "remote", "add", "-d", "storage", str(tmp_path / "remote"))
    run(clone, "dvc", "push")
    run(clone, "git", "add", ".")
    run(clone, "git", "commit", "-qm", "trained")
    run(tmp_path, "git", "clone", "-q", str(clone), "elsewhere")
    elsewhere = tmp_path / "elsewhere"
    assert not (elsewhere / "models").exists()
    run(elsewhere, "scripts/pull.sh")
    assert (elsewhere / "models" / "model.pt").read_bytes() == (clone / "models" / "model.pt").read_bytes()
    assert len(list((elsewhere / "data" / "raw").glob("*/*"))) == 120
    # Nothing is trained again, but the model is registered here too.
    assert "champion" in (registered := run(elsewhere, "dvc", "repro"))
    assert stages_run(registered) == ["register"]
