"""What a canary decides when nothing can be seen. Prometheus and the candidate are servers that misbehave."""

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from deploy.canary.options import PROMOTE, Options
from deploy.canary.steps import Canary, RejectedError
from deploy.target import Unfinished
from tests.helpers.endpoint import Reply, endpoint

EMPTY = {"status": "success", "data": {"resultType": "matrix", "result": []}}


class World:
    """A Prometheus without data and a candidate that is ready, until a test says otherwise."""

    def __init__(self, ending: ExitStack) -> None:
        self.queries = self.looks = 0
        self.silent_from = self.not_ready_from = 10**9
        self.ready_again = 10**9
        self.shares: list[int] = []
        self.prometheus, _ = ending.enter_context(endpoint(self._prometheus))
        self.url, _ = ending.enter_context(endpoint(self._candidate))
        self.options = Options(
            shares=(10, 50),
            step_s=0.6,
            look_s=0.1,
            prometheus=self.prometheus,
            token="",
            job="cats-vs-dogs",
            least=1,
            too_little=PROMOTE,
            alpha=0.01,
            tolerances={},
        )

    def run(self, unfinished: Unfinished | None = None, **options: object) -> None:
        changed = dataclasses.replace(self.options, **options)  # type: ignore[arg-type]
        Canary(changed, "abc-1").run(self.shares.append, self.url, unfinished)

    def _prometheus(self, _: object) -> Reply:
        self.queries += 1
        if self.queries > self.silent_from:
            return Reply(400, {"status": "error", "error": "out of order"})
        return Reply(200, EMPTY)

    def _candidate(self, _: object) -> Reply:
        self.looks += 1
        return Reply(503 if self.not_ready_from < self.looks <= self.ready_again else 200)


@pytest.fixture
def world() -> Iterator[World]:
    with ExitStack() as ending:
        yield World(ending)


def test_it_goes_through_all_shares(world) -> None:
    world.run()
    assert world.shares == [10, 50]


@pytest.mark.parametrize(("percent", "shares"), [(0, [10, 50]), (10, [10, 50]), (50, [50]), (100, [])])
def test_it_goes_on_where_it_was_cut_off(world, percent, shares) -> None:
    world.run(Unfinished("abc-1", percent))
    assert world.shares == shares


def test_a_candidate_that_is_not_ready_is_rejected_after_three_looks(world) -> None:
    world.not_ready_from = 1
    with pytest.raises(RejectedError, match="not ready at 3 looks in a row"):
        world.run(step_s=60)
    assert world.shares == [10]
    assert world.looks == 4


def test_two_looks_are_no_reason(world) -> None:
    world.not_ready_from, world.ready_again = 1, 3
    world.run()
    assert world.shares == [10, 50]


def test_silence_of_prometheus_is_a_reason_at_the_end_of_a_step(world) -> None:
    world.silent_from = 4
    with pytest.raises(RejectedError, match=r"Prometheus has not answered for \d s: .*out of order"):
        world.run()
    assert world.shares == [10]


def test_silence_at_the_start_is_a_reason_too(world) -> None:
    world.silent_from = 0
    with pytest.raises(RejectedError, match="out of order"):
        world.run()
    assert world.shares == []
