"""The command line of `python -m deploy`."""

import subprocess
import sys

import pytest

from deploy import TARGETS
from deploy.__main__ import COMMANDS
from ml.cli import run


@pytest.mark.parametrize("name", COMMANDS)
def test_help_describes_every_argument_and_does_nothing_else(name, capsys, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemExit) as ended:
        run("deploy", "", COMMANDS, [name, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert f"example:\n  python -m deploy {name} --" in out
    for variable in TARGETS[name][2] if name in TARGETS else ():
        assert variable in out


def test_googles_package_is_imported_for_cloud_run_only_and_numpy_for_canaries_only() -> None:
    others = ", ".join(module for name, (module, _) in COMMANDS.items() if name != "cloud-run")
    program = f"import sys, {others}; sys.exit({{'google.cloud.run_v2', 'numpy'}} & {{*sys.modules}} or 0)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_without_googles_package_cloud_run_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.run_v2", None)
    monkeypatch.delitem(sys.modules, "deploy.cloud_run", raising=False)
    with pytest.raises(SystemExit, match=r"google\.cloud\.run_v2 is not installed: `make deploy-tools`"):
        run("deploy", "", COMMANDS, ["cloud-run", "--rollback"])


WINDOWS = """
import sys, types
sys.modules["fcntl"] = None
from deploy import command
from deploy.__main__ import COMMANDS
from ml.cli import run
command.os = types.SimpleNamespace(name="nt", environ={})
sys.exit(run("deploy", "", COMMANDS, sys.argv[1:]))
"""


@pytest.mark.parametrize("name", TARGETS)
def test_on_windows_a_target_says_at_once_what_to_use(name) -> None:
    command = [sys.executable, "-c", WINDOWS, name, "--image", "cats-vs-dogs"]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True)
    said = "error: python -m deploy does not run on Windows itself: run it in WSL; nothing was changed\n"
    assert (done.returncode, done.stderr, done.stdout) == (1, said, "")
