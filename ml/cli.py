"""What every stage's command line shares."""

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
