"""The traffic of a Cloud Run service: `traffic`, as it is wanted, and `trafficStatuses`, as it is."""

import re
from typing import Any

from deployment.answers import dig, text
from deployment.target import DeployError

CANDIDATE, PREVIOUS = "candidate", "previous"
"""Tags that a deploy gives: to the new revision while it is tested, and to the one that served before."""

_LATEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
_REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"


def latest() -> dict[str, Any]:
    """Return what gives all traffic to the latest ready revision."""
    return {"type": _LATEST, "percent": 100}


def to(revision: str, percent: int, tag: str = "") -> dict[str, Any]:
    """Return what gives a share of the traffic, and a tag, to a revision."""
    return {"type": _REVISION, "revision": revision, "percent": percent} | ({"tag": tag} if tag else {})


def tags_of_others(service: Any) -> list[Any]:
    """Return the tags that somebody else has given; they go on without traffic."""
    ours = ("", CANDIDATE, PREVIOUS)
    return [
        entry | {"percent": 0} for entry in dig(service, "traffic") or [] if text(entry, "tag") not in ours
    ]


def serving(service: Any) -> str:
    """Return the revision that gets all traffic; empty where none gets any.

    Raises:
        DeployError: several do.
    """
    entries = [entry for entry in dig(service, "trafficStatuses") or [] if dig(entry, "percent")]
    found = {latest_ready(service) if text(entry, "type") == _LATEST else _name(entry) for entry in entries}
    if len(found) > 1:
        raise DeployError(
            f"the traffic is split between {', '.join(sorted(found))}; give it all to one first"
        )
    return found.pop() if found else ""


def latest_ready(service: Any) -> str:
    """Return the latest revision that is ready."""
    return text(service, "latestReadyRevision").rpartition("/")[2]


def tagged(service: Any, tag: str) -> str:
    """Return the revision that has a tag; empty where none has."""
    return next((_name(entry) for entry in dig(service, "traffic") or [] if text(entry, "tag") == tag), "")


def tag_url(service: Any, tag: str) -> str:
    """Return the URL of a tag; empty where there is none."""
    entries = dig(service, "trafficStatuses") or []
    return next((text(entry, "uri") for entry in entries if text(entry, "tag") == tag), "")


def url(service: Any) -> str:
    """Return the URL of the service.

    Raises:
        DeployError: it has none.
    """
    found = text(service, "uri")
    if not re.fullmatch(r"https?://[!-~]+", found):
        raise DeployError("Cloud Run tells no URL of the service")
    return found


def _name(entry: Any) -> str:
    return text(entry, "revision").rpartition("/")[2]
