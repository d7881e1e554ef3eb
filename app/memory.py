"""How much memory this process may use, and the C library's allocator, set for many threads."""

import contextlib
import math
from pathlib import Path

from app import cgroups
from ml.memory import set_allocator

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""`mallopt` parameters (glibc, malloc.h)."""
_ARENAS = 2
_LARGE = 4 * 1024 * 1024
"""Bytes from which an allocation has pages of its own. What photos of common sizes take is below."""

_NO_LIMIT = 2**62


def bound_freed_memory() -> bool:
    """Keep freed memory from piling up in a process of many threads.

    All threads share a few arenas, where glibc would give each thread its own and its own leftovers: 114 MB
    under load instead of 129 with 16 predictions at once (docs/performance.md). Large blocks go back to the
    system when they are freed: glibc would raise the size from which it does so to that of the largest photo
    yet, up to 32 MB, and small blocks that outlive large ones then keep the gaps (scripts/fuzz.py shows it).

    Returns:
        Whether the C library knows the settings; musl and macOS have no arenas of the kind.
    """
    # The second threshold is that for the end of the heap, twice the first as glibc itself would have it.
    return set_allocator(
        (_M_ARENA_MAX, _ARENAS), (_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, 2 * _LARGE)
    )


def limit(root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP) -> float:
    """Return the smallest memory limit of this process's control groups, in bytes; infinite: none.

    Version 2 states it in `memory.max`, version 1 in the `memory` controller's `memory.limit_in_bytes`, where
    a number near 2**63 stands for none (Linux's admin-guide/cgroup-v2 and cgroup-v1/memory).
    """
    limits = [math.inf]
    for folder in cgroups.folders("memory", root, membership):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                limits.append(int((folder / name).read_text("utf-8")))
    smallest = min(limits)
    return math.inf if smallest >= _NO_LIMIT else float(smallest)
