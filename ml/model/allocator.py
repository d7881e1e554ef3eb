"""Settings of the C library's memory allocator."""

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
"""`mallopt` parameters (glibc, malloc.h)."""


def set_allocator(*settings: tuple[int, int]) -> bool:
    """Set parameters of the allocator, each as number and value (see mallopt(3)).

    Returns:
        Whether all were accepted; musl, macOS and Windows have no such parameters.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    accepted = [bool(mallopt(parameter, value)) for parameter, value in settings]
    return all(accepted)


def keep_freed_memory() -> bool:
    """Make glibc reuse freed memory for large tensors instead of mapping fresh pages each time.

    The kernel zeroes every page that it maps, which takes half of the training time on a CPU
    (`/usr/bin/time -v python -m ml train` counts the page faults).

    Returns:
        Whether the C library has these settings.
    """
    return set_allocator((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28))
