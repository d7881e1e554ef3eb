"""The limit of bytes of all bodies: whose upload is shed, and that all bytes are given back."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from app.http import body_budget
from app.http.body_budget import BodyBudget, RequestBody

MB = 1024 * 1024


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(body_budget, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class Uploads:
    """Uploads to one budget, and the names of those that were shed."""

    def __init__(self, limit: int) -> None:
        self.budget, self.shed = BodyBudget(limit), list[str]()

    def begin(self, client: str, name: str) -> RequestBody:
        def shed() -> None:
            self.shed.append(name)
            self.budget.close(body)

        body = RequestBody(client, shed)
        return body


def test_the_client_whose_uploads_cost_most_loses_the_one_that_costs_most(clock):
    uploads = Uploads(100)
    for number in range(9):
        assert uploads.budget.grow(uploads.begin("attacker", f"stalled-{number}"), 10)
        clock.now += 1
    honest = uploads.begin("honest", "honest")
    assert uploads.budget.grow(honest, 10)
    clock.now += 1
    for _ in range(5):
        assert uploads.budget.grow(honest, 10)
    assert uploads.shed == [f"stalled-{number}" for number in range(5)]
    assert uploads.budget.used == 100


def test_many_addresses_with_one_stalled_upload_each_do_not_push_out_a_fast_large_one(clock):
    uploads = Uploads(100)
    for number in range(9):
        uploads.budget.grow(uploads.begin(f"attacker-{number}", f"stalled-{number}"), 10)
    clock.now += 30
    honest = uploads.begin("honest", "honest")
    for _ in range(8):
        clock.now += 0.1
        assert uploads.budget.grow(honest, 10)
    assert "honest" not in uploads.shed


def test_a_client_that_begins_its_uploads_again_does_not_seem_cheap(clock):
    uploads = Uploads(100)
    honest = uploads.begin("honest", "honest")
    stalled = [uploads.begin("attacker", "stalled") for _ in range(2)]
    for second in range(100):
        for number, body in enumerate(stalled):
            if not body.held:
                stalled[number] = uploads.begin("attacker", "stalled")
                uploads.budget.grow(stalled[number], 45)
        if second % 10 == 9:  # it may also give one up just before it would be shed
            uploads.budget.close(stalled[0])
        clock.now += 1
        assert uploads.budget.grow(honest, 0.4)
    assert set(uploads.shed) == {"stalled"}


def test_the_cost_of_the_past_is_forgotten(clock):
    uploads = Uploads(100)
    shed = uploads.begin("once", "once")
    uploads.budget.grow(shed, 90)
    clock.now += 100
    uploads.budget.close(shed)
    clock.now += 120
    stalled = uploads.begin("other", "stalled")
    uploads.budget.grow(stalled, 90)
    clock.now += 1
    assert uploads.budget.grow(uploads.begin("once", "again"), 20)
    assert uploads.shed == ["stalled"]
    for number in range(5000):
        body = uploads.begin(f"client-{number}", "one")
        uploads.budget.grow(body, 1)
        uploads.budget.close(body)
    assert len(uploads.budget._past) <= 4096


def test_complete_requests_are_not_shed(clock):
    uploads = Uploads(100)
    for number in range(10):
        waiting = uploads.begin("a", f"waiting-{number}")
        assert uploads.budget.grow(waiting, 10)
        uploads.budget.finish(waiting)
    late = uploads.begin("b", "late")
    assert not uploads.budget.grow(late, 1)
    uploads.budget.close(late)
    assert (uploads.shed, uploads.budget.used) == ([], 100)


def test_a_body_that_is_closed_twice_gives_its_bytes_back_once():
    uploads = Uploads(100)
    one, other = uploads.begin("a", "one"), uploads.begin("a", "other")
    uploads.budget.grow(one, 10)
    uploads.budget.grow(other, 10)
    for _ in range(2):
        uploads.budget.close(one)
    assert uploads.budget.used == 10


def test_bytes_are_given_back_from_any_thread():
    budget = BodyBudget(10**9)
    bodies = [RequestBody("a", lambda: None) for _ in range(2000)]
    for body in bodies:
        budget.grow(body, 7)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(budget.close, bodies * 2))
    assert budget.used == 0
