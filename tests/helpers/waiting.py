"""How long a test waits for what must happen: so long that only a hang fails, however slow the machine is."""

import os
import time
from collections.abc import Callable

HANG_S = int(os.environ.get("HANG_S", 300))
"""Seconds after which a process, a request or a state that a test waits for counts as hung."""


def until(holds: Callable[[], object], message: str = "") -> None:
    """Wait until the condition holds.

    Args:
        holds: the condition; it is called again and again.
        message: what is wrong if it never holds.

    Raises:
        AssertionError: the condition did not hold within HANG_S seconds.
    """
    end = time.monotonic() + HANG_S
    while not holds():
        assert time.monotonic() < end, message or f"the condition did not hold within {HANG_S} s"
        time.sleep(0.01)
