"""`traceparent` and `tracestate`, as W3C Trace Context says."""

import pytest

from app.telemetry.trace_context import parse_parent, parse_state

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        (VALID, 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-ff", 255),
        (f"01-{TRACE}-{SPAN}-03", 3),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", 1),
        (f"fe-{TRACE}-{SPAN}-01-", 1),
    ],
)
def test_valid_parents(header, flags):
    context = parse_parent(header)
    assert context == (TRACE, SPAN, flags)
    assert context.fields == {"trace_id": TRACE, "span_id": SPAN, "trace_flags": f"{flags:02x}"}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        VALID[:-1],
        VALID + "0",
        VALID + "-",
        VALID + "-00",
        VALID.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"fF-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"0x-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}{SPAN}-01",
        f"00-{TRACE[:-1]}.-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE}-{SPAN}-1",
        f"01-{TRACE}-{SPAN}-01.x",
        f"01-{TRACE}-{SPAN}-01-\xff",
        f"01-{TRACE}-{SPAN}-01-" + "x" * 1000,
        f"{VALID}, {VALID}",  # two headers
        f" {VALID}",
        f"{VALID}\n",
        VALID.replace("4", "\u0664"),  # a digit, but not an ASCII one
        "\0" * 55,
    ],
)
def test_other_parents_are_ignored(header):
    assert parse_parent(header) is None


@pytest.mark.parametrize(
    ("header", "pairs"),
    [
        ("", []),
        ("foo=1", [("foo", "1")]),
        ("foo=1,bar=2", [("foo", "1"), ("bar", "2")]),
        (" foo=1 ,\tbar=2,,", [("foo", "1"), ("bar", "2")]),
        ("a=1,a=2", [("a", "1")]),
        ("tenant@system=x y", [("tenant@system", "x y")]),
        ("0_-*/=!", [("0_-*/", "!")]),
        (f"{'k' * 256}={'v' * 256}", [("k" * 256, "v" * 256)]),
        (",".join(f"k{n}=v" for n in range(32)), [(f"k{n}", "v") for n in range(32)]),
        (",".join(f"k{n}=v" for n in range(33)), []),
        (f"{'k' * 257}=v", []),
        (f"k={'v' * 257}", []),
        ("foo=1,bar", []),
        ("Foo=1", []),
        ("foo =1", []),
        ("foo=", []),
        ("foo=1=2", []),
        ("foo=\xff", []),
        ("foo=a\tb", []),
        ("_foo=1", []),
        ("," * 9000, []),
    ],
)
def test_states(header, pairs):
    assert parse_state(header) == pairs
