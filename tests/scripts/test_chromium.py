"""The start of Chromium."""

import os
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest

from tests.conftest import REQUIRE_ALL
from tests.helpers.paths import ROOT


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has netlink sockets")
@pytest.mark.skipif(not (find_library("seccomp") or REQUIRE_ALL), reason="libseccomp is not installed")
def test_it_does_not_hear_of_changes_of_the_network() -> None:
    listen = "import socket; socket.socket(socket.AF_INET).close(); socket.socket(socket.AF_NETLINK)"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    started = subprocess.run(
        [ROOT / "scripts/common/steady_chromium.py", "-c", listen],
        env={"CHROMIUM": sys.executable, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.stderr.endswith("PermissionError: [Errno 13] Permission denied\n")
