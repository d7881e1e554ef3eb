"""How many connections the service accepts, by the file descriptors that it may have."""

from types import SimpleNamespace

import pytest

from app.http import listener

MB = 1024 * 1024


@pytest.mark.parametrize(
    ("descriptors", "bodies", "expected"),
    [
        (65_536, 64 * MB, 1000),
        (256, 0, 156),  # 100 are for everything else
        (256, 64 * MB, 92),  # each MB of bodies may be a file
        (256, 512 * MB, 78),  # but half of them are for connections
        (64, 0, 10),
    ],
)
def test_connections_by_descriptors(
    monkeypatch: pytest.MonkeyPatch, descriptors: int, bodies: int, expected: int
) -> None:
    limits = SimpleNamespace(
        RLIMIT_NOFILE=7, getrlimit=lambda _: (descriptors, descriptors), setrlimit=lambda *_: None
    )
    monkeypatch.setattr(listener, "resource", limits)
    assert listener._connection_limit(bodies) == expected
