"""The control groups that this process is in: where a container's limits stand (Linux, versions 1 and 2)."""

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def folders(controller: str, root: Path = ROOT, membership: Path = MEMBERSHIP) -> set[Path]:
    """Return the folders whose limits hold for this process; none where there are no control groups.

    Args:
        controller: `cpu`, `memory` ..., which version 1 keeps apart.
        root: where the control groups are mounted.
        membership: the kernel's list of this process's groups.
    """
    try:
        lines = membership.read_text("utf-8").splitlines()
    except OSError:
        return set()
    found: set[Path] = set()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        inside = Path(path.lstrip("/"))
        # A limit of any group above holds too. In a container the path may name the host's tree, which
        # isn't there to see: the container's own group is then the root.
        found |= {base, *(base / part for part in (inside, *inside.parents))}
    return found
