"""The trace that a request belongs to: the headers `traceparent` and `tracestate` of W3C Trace Context."""

import re
from typing import NamedTuple

# https://www.w3.org/TR/trace-context-2/: lower case only; only a version after 00 may have further fields.
_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[ -~]*)?")
_ZERO = re.compile("0+")
_MEMBER = re.compile(r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[ -+\--<>-~]{0,255}[!-+\--<>-~]")
_MAX_PARENT, _MAX_STATE, _MAX_MEMBERS = 512, 8192, 32


class TraceContext(NamedTuple):
    """A span, as the request's headers or this service name it."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    flags: int
    """The lowest bit says whether the trace is recorded."""

    @property
    def fields(self) -> dict[str, str]:
        """Fields of a log line, named as OpenTelemetry names them in JSON."""
        return {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "trace_flags": f"{self.flags:02x}",
        }


def parse_parent(header: str) -> TraceContext | None:
    """Return the client's span; None: the header is empty or not valid, and then it is ignored.

    Args:
        header: `traceparent`.
    """
    match = _PARENT.fullmatch(header) if 0 < len(header) <= _MAX_PARENT else None
    if not match:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if (version == "00" and more) or _ZERO.fullmatch(trace_id) or _ZERO.fullmatch(span_id):
        return None
    return TraceContext(trace_id, span_id, int(flags, 16))


def parse_state(header: str) -> list[tuple[str, str]]:
    """Return the pairs of `tracestate`; empty: there are none, or one is not valid."""
    members = [member for each in header.split(",") if (member := each.strip(" \t"))]
    valid = (
        len(header) <= _MAX_STATE and len(members) <= _MAX_MEMBERS and all(map(_MEMBER.fullmatch, members))
    )
    pairs: dict[str, str] = {}
    for member in members if valid else []:
        key, _, value = member.partition("=")
        pairs.setdefault(key, value)
    return list(pairs.items())
