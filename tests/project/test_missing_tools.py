"""At the end of a run, pytest says which missing tools made it skip tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S

TESTS = """
import pytest
from tests.conftest import CONTAINERS, needs, not_installed

@needs("no-such-tool")
def test_one(): pass

@needs("no-such-tool", "no-other-tool")
def test_two(): pass

def test_three(): pytest.skip(not_installed(CONTAINERS))

def test_four(): pytest.skip("another reason")
"""


@pytest.mark.parametrize("options", [[], ["--numprocesses", "2"]], ids=["alone", "side by side"])
def test_the_summary_counts_skipped_tests_by_tool(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", tmp_path, *options]
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "120", "REQUIRE_ALL": ""}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stdout + done.stderr
    _, _, summary = done.stdout.partition("tests skipped because a tool is missing")
    assert [line.split() for line in summary.splitlines()[1:4]] == [
        ["no-other-tool", "1", "test"],
        ["no-such-tool", "2", "tests"],
        ["podman", "or", "docker", "1", "test"],
    ]
    assert "scripts/install_test_tools.sh" in summary
    assert "another reason" not in summary
