"""dvc.yaml: a stage depends on all code that it imports, and on no other."""

import ast
import contextlib
import importlib.util
from pathlib import Path

import pytest
import yaml

from ml.__main__ import COMMANDS
from tests.helpers.paths import ROOT


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
