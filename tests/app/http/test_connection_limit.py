"""How many connections the service accepts, by the file descriptors that it may have."""

import errno
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from flask import Flask

from app.http import listener
from tests.helpers.served import Served
from tests.helpers.waiting import until

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


def test_without_descriptors_the_listening_socket_rests(
    monkeypatch: pytest.MonkeyPatch, make_app: Callable[..., Flask]
) -> None:
    """It stays readable as long as a client waits, so the loop would turn without a pause."""
    ours = Served(make_app(host="127.0.0.1", port=0)).listener

    def accept() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(ours._listening[0], "accept", accept)
    monkeypatch.setattr(listener, "_RETRY_S", 1.0)
    assert ours.readable()
    ours._accept_one()
    assert not ours.readable()
    until(ours.readable)
    ours.close()
