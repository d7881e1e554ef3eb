"""The commit, parameters and data that a model comes from. This module does not import MLflow."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ml.data import collected, decisions, reviewed
from ml.model.urls import public_name
from ml.params import PATH as PARAMS

_NOT_CODE = (
    str(PARAMS),
    "dvc.lock",
    "metrics",
    f"{collected.FOLDER}.dvc",
    *map(str, (collected.PATH, reviewed.PATH, decisions.PATH)),
)
_SOURCES = ("ingest.source", "evaluate.other")


def git_commit() -> str:
    """Return the checked-out commit, or an empty string outside a repository.

    It ends with `-dirty` if tracked files differ from the commit, or if git does not track a file in ml/,
    such as the module of a new architecture. params.yaml, dvc.lock, metrics/, collected.csv, collected.dvc,
    collected_decisions.csv and label_decisions.csv do not count: each training or review may change them.
    `parameters_changed` records the parameters, and dvc.lock the MD5 of collected.csv and of
    label_decisions.csv.
    """
    commit = _git("rev-parse", "HEAD").strip()
    exclusions = [f":(exclude){path}" for path in _NOT_CODE]
    dirty = _git(
        "--no-optional-locks", "status", "--porcelain", "--untracked-files=no", "--", ":/", *exclusions
    )
    untracked = _git("ls-files", "--others", "--exclude-standard", "--", "ml")
    return f"{commit}-dirty" if commit and (dirty or untracked) else commit


def parameters_changed() -> dict[str, Any]:
    """Return the parameters that differ from the commit's params.yaml, new values by dotted name.

    Empty if nothing differs or there is no commit. Sources of photos are as in `public_name`.
    """
    try:
        committed = YAML(typ="safe").load(_git("show", f"HEAD:./{PARAMS}")) or {}
        current = YAML(typ="safe").load(PARAMS)
    except (OSError, YAMLError):
        return {}
    if not committed:
        return {}
    before, after = flatten(committed), flatten(current)
    changed = {name: value for name, value in after.items() if name not in before or before[name] != value}
    return publishable(changed)


def dataset_md5() -> str:
    """Return DVC's MD5 of the ingested photos, or an empty string if dvc.lock names none."""
    try:
        lock = YAML(typ="safe").load(Path("dvc.lock"))
        return str(lock["stages"]["ingest"]["outs"][0]["md5"])
    except (OSError, YAMLError, KeyError, TypeError, IndexError):
        return ""


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested parameters by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        flat |= flatten(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat


def publishable(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters, by dotted name, with the sources of photos as `public_name` returns them."""
    return {name: public_name(str(value)) if name in _SOURCES else value for name, value in params.items()}


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""
