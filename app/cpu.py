"""How many processors this process may really use: a container's quota, not the host's cores."""

import math
import os
from pathlib import Path

from app import cgroups


def quota(root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP) -> float | None:
    """Return the smallest CPU quota of this process's control groups, in processors; None: unlimited.

    Version 2 states quota and period in `cpu.max`, version 1 in two files of the `cpu` controller
    (Linux's admin-guide/cgroup-v2 and scheduler/sched-bwc).
    """
    limits = (_limit(group) for group in cgroups.folders("cpu", root, membership))
    return min((limit for limit in limits if limit is not None), default=None)


def available() -> int:
    """Return how many processors this process may keep busy, at least 1; a part of one counts as one."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = quota()
    return max(1, min(allowed, math.ceil(limit)) if limit is not None else allowed)


def _limit(group: Path) -> float | None:
    try:
        if (group / "cpu.max").is_file():
            first, period = (group / "cpu.max").read_text("utf-8").split()
        else:
            first = (group / "cpu.cfs_quota_us").read_text("utf-8").strip()
            period = (group / "cpu.cfs_period_us").read_text("utf-8")
        if first in ("max", "-1"):
            return None
        return int(first) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
