"""How many processors this process may really use: a container's quota, not the host's cores."""

import math
import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")


def quota(root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> float | None:
    """Return the smallest CPU quota of this process's control groups, in processors; None: unlimited.

    Version 2 states quota and period in `cpu.max`, version 1 in two files of the `cpu` controller
    (Linux's admin-guide/cgroup-v2 and scheduler/sched-bwc).
    """
    try:
        lines = membership.read_text("utf-8").splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        inside = Path(path.lstrip("/"))
        # A limit of any group above holds too. In a container the path may name the host's tree, which
        # isn't there to see: the container's own group is then the root.
        for group in {base, *(base / part for part in (inside, *inside.parents))}:
            limits.append(_limit(group))
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
