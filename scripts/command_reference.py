"""Write docs/command-line.md, the --help of every command of this repository."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator

from ml.cli import run
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
    yield ("-m", "monitoring")
    for package in _PACKAGES:
        yield ("-m", package)
        listed = getattr(importlib.import_module(f"{package}.__main__"), "COMMANDS", {})
        yield from (("-m", package, name) for name in listed)
    for script in sorted((ROOT / "scripts").glob("*.py")):
        if "__main__" in script.read_text("utf-8"):
            yield ("-m", f"scripts.{script.stem}")


def help_of(command: tuple[str, ...]) -> str:
    """Return what `python COMMAND --help` prints, wrapped at a fixed width.

    Raises:
        SystemExit: the command fails; the message names it and says why.
    """
    # Python 3.14 would print colours.
    settings = {"COLUMNS": str(_WIDTH), "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    name = f"python {' '.join(command)} --help"
    if len(command) == 3:  # in this process, which imports torch and MLflow only once
        package = importlib.import_module(f"{command[1]}.__main__")
        printed = io.StringIO()
        os.environ.update(settings)
        with contextlib.redirect_stdout(printed):
            try:
                run(command[1], "", package.COMMANDS, [command[2], "--help"])
            except SystemExit as end:
                if end.code:
                    raise SystemExit(f"error: {name}: {end.code}") from None
        return printed.getvalue()
    done = subprocess.run(  # noqa: S603
        [sys.executable, *command, "--help"],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"error: {name}: {done.stderr.strip().rpartition(chr(10))[2]}")
    return done.stdout


def reference() -> str:
    """Return the document, Markdown; raises as `help_of`."""
    return _HEAD + "".join(map(_section, commands()))


def _section(command: tuple[str, ...]) -> str:
    lines = "\n".join(line.rstrip() for line in help_of(command).rstrip().splitlines())
    return f"\n## `python {' '.join(command)}`\n\n```text\n{lines}\n```\n"


if __name__ == "__main__":
    sys.exit(write_or_check(reference, TARGET, __doc__))
