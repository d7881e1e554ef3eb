"""What every command line shares."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ml.errors import PipelineError


@contextmanager
def exit_cleanly() -> Iterator[None]:
    """End with one line on standard error and exit code 1 where a person can mend what went wrong."""
    try:
        yield
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def say(line: str) -> None:
    """Print a line of the result, at once, so that a log shows how far it is."""
    print(line, flush=True)  # noqa: T201


def note(line: str) -> None:
    """Print a line that is no part of the result."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201
