"""What stands where in parsed JSON that somebody else has sent; nothing of it is taken for granted."""

from typing import Any


def dig(data: Any, *path: str | int) -> Any:
    """Return what stands at a path in parsed JSON; None where it ends before."""
    for step in path:
        if isinstance(step, int):
            data = data[step] if isinstance(data, list) and len(data) > step else None
        else:
            data = data.get(step) if isinstance(data, dict) else None
    return data


def text(data: Any, *path: str | int) -> str:
    """Return the string at a path in parsed JSON; empty where there is none."""
    found = dig(data, *path)
    return found if isinstance(found, str) else ""
