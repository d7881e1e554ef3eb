"""The command lines of `ml`, `release` and `deploy`.

Each package lists its commands. A command is a module with

    EXAMPLE = "python -m ml ingest"                    # shown by --help
    def configure(parser: argparse.ArgumentParser) -> None: ...      # adds the arguments, if there are any
    def main(arguments: argparse.Namespace) -> int | None: ...       # does the work, returns the exit code

The module's docstring is the description. Only the module of the requested command is imported.
"""

import argparse
import errno
import importlib
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ml.model import VERSION
from ml.model.errors import PipelineError, one_line, quiet_stores

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_INSTALLERS = {"ml": "make dev", "release": "make deploy-tools", "deploy": "make deploy-tools"}
_PIPE_CLOSED = 141
"""Exit code of a program that SIGPIPE ends, as shells report it."""


def run(
    package: str, description: str, commands: Mapping[str, tuple[str, str]], argv: Sequence[str] | None = None
) -> int:
    """Parse a command line and run its command.

    Args:
        package: the name after `python -m`.
        description: one sentence about the package.
        commands: module and one-line summary of each command, by name.
        argv: the arguments; None: those of this process.

    Returns:
        The exit code of the command. The process ends with 1 after a PipelineError, if a package is missing,
        or if a file can't be read or written, which is printed as one line, with 2 after wrong usage, with
        130 after Ctrl-C, and with 141 if nobody reads its output any more.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files need not be UTF-8
    quiet_stores()
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description=description)
    parser.add_argument("--version", action="version", version=VERSION)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    try:
        implementation = None
        for name, (module, summary) in commands.items():
            subparser = subparsers.add_parser(
                name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
            )
            if argv[:1] == [name]:
                implementation = importlib.import_module(module)
                subparser.description = implementation.__doc__
                subparser.epilog = f"example:\n  {implementation.EXAMPLE}"
                if hasattr(implementation, "configure"):
                    implementation.configure(subparser)
        arguments = parser.parse_args(argv)
        assert implementation is not None  # parse_args accepts only the commands above
        return int(implementation.main(arguments) or 0)
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in _INSTALLERS:
            raise
        environment = Path(".venv").resolve()
        if environment.is_dir() and environment != Path(sys.prefix).resolve():
            sys.exit(
                f"error: {missing.name} is missing in {sys.prefix}, which is not .venv: activate it "
                "(`. .venv/bin/activate`; Windows: `. .venv/Scripts/activate`)"
            )
        installer = "make dev" if (package, *argv[:1]) == ("release", "gate") else _INSTALLERS[package]
        sys.exit(f"error: {missing.name} is not installed: `{installer}` installs it")
    except OSError as error:
        if error.errno not in _DISK_FULL:
            if not error.filename:
                raise
            sys.exit(f"error: {error.filename}: {error.strerror}")
        place = error.filename or Path.cwd()
        sys.exit(f"error: the disk is full, at {place}: free some space, and run it again")
    except KeyboardInterrupt:
        sys.exit(130)


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Return what argparse takes as the `type` of an argument that is a whole number in a range."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"expected a number from {least} to {most}, not {one_line(text, 40)!r}"
            )
        return int(text)

    return parse


port = whole_number(0, 65_535)
"""Type of an argument that is a TCP port; 0: any free one."""


def say(line: str) -> None:
    """Print a line of the result without buffering, so that a log shows the progress.

    The process ends if nobody reads it any more, as in `... | head`.
    """
    try:
        print(line, flush=True)  # noqa: T201
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_PIPE_CLOSED)


def note(line: str) -> None:
    """Print a line that is not part of the result, to standard error."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
