"""Token buckets."""

from types import SimpleNamespace

import pytest
from werkzeug.exceptions import TooManyRequests

from app.http import rate_limit
from app.http.gate import Gate
from app.http.rate_limit import RateLimit
from app.settings import Settings


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(rate_limit, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_burst_passes_then_the_rate(clock):
    limit = RateLimit(per_second=2, burst=3)
    assert [limit.seconds_to_wait("a") for _ in range(3)] == [0, 0, 0]
    assert limit.seconds_to_wait("a") == 0.5
    assert limit.seconds_to_wait("b") == 0  # another client has a burst of its own
    clock.now += 0.5
    assert [limit.seconds_to_wait("a") for _ in range(2)] == [0, 0.5]
    clock.now += 1000  # no more than a burst is saved up
    assert [limit.seconds_to_wait("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_rejected_events_do_not_prolong_the_wait(clock):
    limit = RateLimit(per_second=1, burst=1)
    limit.seconds_to_wait("a")
    assert {limit.seconds_to_wait("a") for _ in range(100)} == {1}
    clock.now += 1
    assert limit.seconds_to_wait("a") == 0


def test_it_remembers_a_bounded_number_of_clients_and_forgets_the_oldest(clock):
    limit = RateLimit(per_second=0.001, burst=1)
    for client in range(rate_limit._CLIENTS):
        limit.seconds_to_wait(client)
    assert limit.seconds_to_wait(0) > 0  # now it was seen last
    for client in range(10_000, 10_100):
        limit.seconds_to_wait(client)
    assert len(limit._buckets) == rate_limit._CLIENTS
    assert limit.seconds_to_wait(0) > 0
    assert limit.seconds_to_wait(1) == 0


def test_a_client_may_judge_1000_answers_at_once_then_20_per_second(clock):
    gate = Gate(Settings())
    request = SimpleNamespace(command="POST", client="a", headers={}, content_length=100)

    def passed() -> int:
        for number in range(2000):
            try:
                gate.check(request, "/feedback")
            except TooManyRequests:
                return number
        return 2000

    assert passed() == 1000
    clock.now += 1
    assert passed() == 20
