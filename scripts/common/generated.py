"""What the scripts that generate a document in docs/ share: the command line."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.common import arguments


def write_or_check(
    text: Callable[[], str], path: Path, description: str | None, argv: Sequence[str] | None = None
) -> int:
    """Write what `text` returns to a file of docs/, or only compare them if the command line has --check.

    Returns:
        The exit code: 1 if --check is given and the file differs.
    """
    parser = arguments.parser(Path(sys.argv[0]).stem, description, "--check")
    parser.add_argument("--check", action="store_true", help=f"only check that {path.name} is up to date")
    options = parser.parse_args(argv)
    if not options.check:
        path.write_text(text(), "utf-8")
    elif not path.exists() or path.read_text("utf-8") != text():
        print(f"error: docs/{path.name} is out of date; run {parser.prog}", file=sys.stderr)
        return 1
    return 0
