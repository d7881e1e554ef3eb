"""CPUs and memory that this process may use.

A container's limits are in its control groups (Linux, cgroup versions 1 and 2; see admin-guide/cgroup-v2,
scheduler/sched-bwc and cgroup-v1/memory in the kernel's documentation). On systems without control groups
there is no limit to find.
"""

import contextlib
import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where the control groups are mounted."""
MEMBERSHIP = Path("/proc/self/cgroup")
"""The kernel's list of this process's groups."""

_NO_LIMIT = 2**62


def available_cpus() -> int:
    """Return how many CPUs this process can keep busy, at least 1; a fraction of a CPU counts as one."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cpus, cpu_quota())))


def cpu_quota() -> float:
    """Return the smallest CPU quota of this process's control groups, in CPUs; infinite: unlimited."""
    quotas = [math.inf]
    for group in _groups("cpu"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # no such file, or "max"
            if (group / "cpu.max").is_file():  # version 2
                quota, period = (group / "cpu.max").read_text("utf-8").split()
            else:
                quota, period = (
                    (group / f"cpu.cfs_{part}_us").read_text("utf-8") for part in ("quota", "period")
                )
            if int(quota) >= 0:  # version 1: -1 means unlimited
                quotas.append(int(quota) / int(period))
    return min(quotas)


def memory_limit() -> float:
    """Return the smallest memory limit of this process's control groups, in bytes; infinite: unlimited."""
    limits: list[float] = [math.inf]
    for group in _groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # version 2, version 1
            with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                limits.append(int((group / name).read_text("utf-8")))
    smallest = min(limits)
    return smallest if smallest < _NO_LIMIT else math.inf  # version 1: near 2**63 means unlimited


def largest_model() -> float:
    """Return how many bytes a model file may have: loading it takes about three times its size in memory."""
    return memory_limit() / 3


def _groups(controller: str) -> set[Path]:
    """Return the folders of the control groups whose limits apply to this process.

    Args:
        controller: `cpu` or `memory`; version 1 keeps each in a tree of its own.
    """
    try:
        lines = MEMBERSHIP.read_text("utf-8").splitlines()
    except OSError:
        return set()
    groups: set[Path] = set()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = CGROUPS / controller if controllers else CGROUPS
        group = Path(path.lstrip("/"))
        # The limits of all parent groups apply too. In a container the path may be that of the host's tree,
        # which isn't visible inside: the container's own group is then the root.
        groups |= {base, *(base / part for part in (group, *group.parents))}
    return groups
