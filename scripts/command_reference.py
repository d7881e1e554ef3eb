"""Write docs/command-line.md, the --help of every command of this repository."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.common.generated import write_or_check

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "command-line.md"

_PACKAGES = ("ml", "release", "deploy")
_WIDTH = 100
_HEAD = """\
# Command line

<!-- Generated from each command's --help by `python -m scripts.command_reference`: edit the command. -->

Run these commands in the repository's folder, with the Python of the environment that `make dev` creates.
Most have a shorter form; `make help` lists them.
"""


class HelpError(RuntimeError):
    """A command doesn't print its help; the message is one line."""


def commands() -> Iterator[tuple[str, ...]]:
    """Yield the arguments of `python` for each command: those of the packages, and the scripts."""
    yield ("-m", "app")
    yield ("-m", "monitoring.dashboards")
    for package in _PACKAGES:
        yield ("-m", package)
        listed = getattr(importlib.import_module(f"{package}.__main__"), "COMMANDS", {})
        yield from (("-m", package, name) for name in listed)
    for script in sorted((ROOT / "scripts").glob("*.py")):
        source = script.read_text("utf-8")
        if "__main__" in source:
            yield ("-m", f"scripts.{script.stem}")


def help_of(command: tuple[str, ...]) -> str:
    """Return the help of a command, wrapped at a fixed width.

    Raises:
        HelpError: the command doesn't print its help and end with exit code 0.
    """
    # Python 3.14 would print colours.
    env = os.environ | {"COLUMNS": str(_WIDTH), "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(  # noqa: S603
        [sys.executable, *command, "--help"], cwd=ROOT, env=env, capture_output=True, text=True
    )
    if done.returncode or not done.stdout.startswith("usage:"):
        problem = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise HelpError(f"python {' '.join(command)} --help: exit code {done.returncode}: {problem}")
    return done.stdout


def reference() -> str:
    """Return the document, Markdown; prints commands without help on standard error and leaves them out."""
    listed = list(commands())
    with ThreadPoolExecutor(2) as pool:
        return _HEAD + "".join(pool.map(_section, listed))


def _section(command: tuple[str, ...]) -> str:
    try:
        text = help_of(command)
    except HelpError as error:
        print(f"warning: {error}", file=sys.stderr)
        return ""
    lines = "\n".join(line.rstrip() for line in text.rstrip().splitlines())
    return f"\n## `python {' '.join(command)}`\n\n```text\n{lines}\n```\n"


if __name__ == "__main__":
    sys.exit(write_or_check(reference, TARGET, __doc__))
