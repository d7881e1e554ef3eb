"""Write docs/command-line.md, the --help of every command of this repository."""

import contextlib
import importlib
import io
import os
import runpy
import sys
from collections.abc import Iterator

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

    All commands run in this process, which imports torch and MLflow only once.

    Raises:
        SystemExit: the command fails; the message names it and says why.
    """
    module, arguments = command[1], [*command[2:], "--help"]
    # Python 3.14 would print colours.
    os.environ.update({"COLUMNS": str(_WIDTH), "NO_COLOR": "1"})
    printed = io.StringIO()
    before = sys.argv
    file = ROOT / module.replace(".", "/")
    file = file / "__main__.py" if file.is_dir() else file.with_suffix(".py")
    sys.argv = [str(file), *arguments]
    try:
        with contextlib.chdir(ROOT), contextlib.redirect_stdout(printed):
            runpy.run_path(str(file), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise SystemExit(f"error: python {' '.join(command)} --help: {end.code}") from None
    finally:
        sys.argv = before
    return printed.getvalue()


def reference() -> str:
    """Return the document, Markdown; raises as `help_of`."""
    return _HEAD + "".join(map(_section, commands()))


def _section(command: tuple[str, ...]) -> str:
    lines = "\n".join(line.rstrip() for line in help_of(command).rstrip().splitlines())
    return f"\n## `python {' '.join(command)}`\n\n```text\n{lines}\n```\n"


if __name__ == "__main__":
    sys.exit(write_or_check(reference, TARGET, __doc__))
