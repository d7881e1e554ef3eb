"""Write docs/command-line.md, the --help of every command of this repository."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from scripts.common.generated import write_or_check
from scripts.common.process import ROOT

TARGET = ROOT / "docs" / "command-line.md"

_PACKAGES = ("ml", "release", "deploy")
_WIDTH = 100
_HEAD = """\
# Command line

<!-- Generated from each command's --help by `python -m scripts.command_reference`: edit the command. -->

Run these commands in the repository's folder, with the Python of the environment that `make dev` creates.
Most have a shorter form; `make help` lists them.
"""


def commands() -> Iterator[tuple[str, ...]]:
    """Yield the arguments of `python` for each command: those of the packages, and the scripts."""
    yield ("-m", "app")
    yield ("-m", "monitoring.dashboards")
    for package in _PACKAGES:
        yield ("-m", package)
        listed = getattr(importlib.import_module(f"{package}.__main__"), "COMMANDS", {})
        yield from (("-m", package, name) for name in listed)
    for script in sorted((ROOT / "scripts").glob("*.py")):
        if "__main__" in script.read_text("utf-8"):
            yield ("-m", f"scripts.{script.stem}")


def reference() -> str:
    """Return the document, Markdown.

    Raises:
        subprocess.CalledProcessError: a command does not print its help; it has printed why.
    """
    with ThreadPoolExecutor(2) as pool:
        return _HEAD + "".join(pool.map(_section, commands()))


def _section(command: tuple[str, ...]) -> str:
    # Python 3.14 would print colours.
    env = os.environ | {"COLUMNS": str(_WIDTH), "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    text = subprocess.check_output([sys.executable, *command, "--help"], cwd=ROOT, env=env, text=True)  # noqa: S603
    lines = "\n".join(line.rstrip() for line in text.rstrip().splitlines())
    return f"\n## `python {' '.join(command)}`\n\n```text\n{lines}\n```\n"


if __name__ == "__main__":
    sys.exit(write_or_check(reference, TARGET, __doc__))
