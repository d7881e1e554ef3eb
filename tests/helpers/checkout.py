"""A copy of this repository, for tests that change it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.helpers.params import copy_params
from tests.helpers.paths import ROOT


def copied(folder: Path) -> Path:
    """Copy the tracked files, with the default parameters, into a folder; the environment is this one."""
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file():  # not deleted since the last commit
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    copy_params(folder)
    (folder / ".venv").symlink_to(sys.prefix)
    for requirements in folder.glob("requirements*.txt"):
        os.utime(requirements, (0, 0))  # make must not install into this environment
    return folder
