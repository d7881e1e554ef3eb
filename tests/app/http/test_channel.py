"""Time-outs of a connection do not depend on the wall clock, which can be set at any moment."""

import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from waitress import channel as waitress_channel
from waitress.adjustments import Adjustments

from app.http import channel, request
from app.http.body_budget import BodyBudget
from app.http.channel import Channel
from app.telemetry.metrics import Metrics


class Clocks:
    """The clocks that the code under test reads, in seconds."""

    wall = 1_000_000.0
    monotonic = 50.0


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    fake = SimpleNamespace(
        time=lambda: clocks.wall, monotonic=lambda: clocks.monotonic, perf_counter=lambda: clocks.monotonic
    )
    for module in (channel, request):
        monkeypatch.setattr(module, "time", fake)
    monkeypatch.setattr(waitress_channel, "time", fake)
    return clocks


@pytest.fixture
def connection(clocks: Clocks) -> Iterator[Channel]:
    ours, client = socket.socketpair()
    server = SimpleNamespace(
        active_channels={},
        admission=SimpleNamespace(draining=False),
        metrics=Metrics(),
        budget=BodyBudget(1000),
        answered=[],
        round=1,
        patience=1.0,
        may_read=lambda quiet: True,
        attend=lambda channel: None,
        add_task=lambda channel: server.answered.append(channel.requests[0].error.code),
        client=client,
    )
    with client:
        connection = Channel(server, ours, ("127.0.0.1", 1), Adjustments(), map={})
        yield connection
        connection.handle_close()


def begin_request(connection: Channel) -> None:
    connection.server.client.sendall(b"GET / HTTP/1.1\r\nHost")
    connection.handle_read()
    connection.server.round += 1


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_clock_that_is_set_closes_no_connection(connection: Channel, clocks: Clocks, hours: int) -> None:
    clocks.wall += hours * 3600
    clocks.monotonic += channel._IDLE_S - 1
    assert connection.readable()
    begin_request(connection)
    clocks.wall += hours * 3600
    clocks.monotonic += request._HEADERS_S - 1
    assert connection.readable()


@pytest.mark.parametrize("hours", [-2, 0, 2])
def test_an_idle_connection_is_closed(connection: Channel, clocks: Clocks, hours: int) -> None:
    clocks.wall += hours * 3600
    clocks.monotonic += channel._IDLE_S + 1
    assert not connection.readable()
    assert connection.will_close


@pytest.mark.parametrize("hours", [-2, 0, 2])
def test_a_slow_request_is_answered(connection: Channel, clocks: Clocks, hours: int) -> None:
    begin_request(connection)
    clocks.wall += hours * 3600
    clocks.monotonic += request._HEADERS_S + 1
    connection.readable()
    assert connection.server.answered == [408]
    assert not connection.will_close


def test_data_that_is_received_keeps_a_connection(connection: Channel, clocks: Clocks) -> None:
    clocks.wall -= 7200
    clocks.monotonic += channel._IDLE_S - 1
    connection.server.client.sendall(b"\r\n")  # clients may send empty lines between requests
    connection.handle_read()
    connection.server.round += 1
    clocks.monotonic += request._HEADERS_S - 1
    assert connection.readable()
