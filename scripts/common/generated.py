"""Command line of the scripts that generate a document in docs/: write it, or check it with --check."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def write_or_check(
    text: Callable[[], str], path: Path, description: str | None, argv: Sequence[str] | None = None
) -> int:
    """Write a generated document, or compare it with the file if the command line has --check.

    Args:
        text: generates the document.
        path: the file.
        description: what the script does, for --help.
        argv: the command line without the program's name; None: that of this process.

    Returns:
        The exit code: 1 if --check is given and the file differs.
    """
    command = f"python -m scripts.{Path(sys.argv[0]).stem}"
    parser = argparse.ArgumentParser(prog=command, description=description)
    parser.add_argument("--check", action="store_true", help=f"only check that {path.name} is up to date")
    options = parser.parse_args(argv)
    if not options.check:
        path.write_text(text(), "utf-8")
    elif not path.exists() or path.read_text("utf-8") != text():
        print(f"error: docs/{path.name} is out of date; run {command}", file=sys.stderr)
        return 1
    return 0
