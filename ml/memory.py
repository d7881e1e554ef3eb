"""The C library's allocator, set for training: what one step frees, the next one takes."""

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""`mallopt` parameters (glibc, malloc.h)."""


def set_allocator(*settings: tuple[int, int]) -> bool:
    """Set parameters of the C library's allocator, each a number and a value (mallopt(3)).

    Returns:
        Whether it took them all; musl and macOS know none.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    taken = [bool(mallopt(parameter, value)) for parameter, value in settings]
    return all(taken)


def keep_freed_memory() -> bool:
    """Let large tensors come from memory that is kept, where glibc maps fresh pages and returns them.

    The kernel zeroes every page that it maps, and a step on a CPU allocates as much as it computes:
    training is twice as fast without (`/usr/bin/time -v python -m ml.train` counts the page faults).

    Returns:
        Whether the C library knows the settings.
    """
    return set_allocator((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28))
