"""Settings of the C library's memory allocator."""

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -3, -4, -8
"""`mallopt` parameters (glibc, malloc.h)."""
_ARENAS = 2
_LARGE = 4 * 1024 * 1024
"""Allocations of this many bytes or more get pages of their own. Photos of common sizes need less."""
_REUSED = 32 * 1024 * 1024  # the largest that glibc accepts


def keep_freed_memory() -> bool:
    """Make glibc reuse freed memory for large tensors instead of mapping fresh pages each time.

    The kernel zeroes every page that it maps, which takes half of the time on a CPU, of training and of
    features alone (`/usr/bin/time -v python -m ml train` counts the page faults).

    Returns:
        Whether the C library has these settings.
    """
    return _set((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28))


def bound_freed_memory() -> bool:
    """Keep freed memory from piling up in a process with many threads.

    All threads share a few arenas. By default, glibc gives each thread an arena of its own, with its own
    leftovers: 129 MB instead of 114 under load with 16 concurrent predictions (docs/performance.md). Large
    blocks go back to the system as soon as they are freed. By default, glibc raises the size that counts as
    large to that of the largest photo so far, up to 32 MB, and small blocks that outlive large ones then keep
    the gaps occupied (scripts/fuzz.py shows it).

    Returns:
        Whether the C library accepts the settings; those of macOS, Windows and musl have no such arenas.
    """
    # The trim threshold applies to the end of the heap. Twice the mmap threshold is glibc's own ratio.
    return _set((_M_ARENA_MAX, _ARENAS), (_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, 2 * _LARGE))


def use_one_arena() -> bool:
    """Make allocations cheap in a process that decodes one photo within a limit of its address space.

    The decoder of HEIC starts a thread for each tile. A thread's own arena reserves 64 MB of addresses. If
    the limit leaves no room for that, each allocation is a system call: 0.6 s for a photo of 12 megapixels
    instead of 0.4.

    Returns:
        Whether the C library accepts the settings.
    """
    return _set((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _REUSED), (_M_TRIM_THRESHOLD, 2 * _REUSED))


def _set(*settings: tuple[int, int]) -> bool:
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
