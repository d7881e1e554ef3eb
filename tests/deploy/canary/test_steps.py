"""What a canary decides when nothing can be seen. Prometheus and the candidate are servers that misbehave."""

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import parse_qs

import numpy as np
import pytest

from deploy.canary import steps
from deploy.canary.options import PROMOTE, ROLL_BACK, Options
from deploy.canary.report import Step
from deploy.canary.rules import CandidateRejectedError
from deploy.canary.steps import Canary
from deploy.target import Unfinished
from tests.helpers.endpoint import Reply, Sent, endpoint
from tests.helpers.waiting import HANG_S

EMPTY = {"status": "success", "data": {"resultType": "matrix", "result": []}}


class World:
    """A Prometheus without data and a candidate that is ready, until a test says otherwise."""

    def __init__(self, ending: ExitStack) -> None:
        self.queries = self.looks = 0
        self.silent_from = self.not_ready_from = 10**9
        self.ready_again = 10**9
        self.shares: list[int] = []
        self.series: dict[str, tuple[str, str]] = {}
        """By metric, the first and the last value of the candidate."""
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

    def _prometheus(self, sent: Sent) -> Reply:
        self.queries += 1
        if self.queries > self.silent_from:
            return Reply(400, {"status": "error", "error": "out of order"})
        form = {name: values[0] for name, values in parse_qs(sent.body.decode()).items()}
        first, last = self.series.get(form["query"].partition("{")[0], ("", ""))
        if not first or "start" not in form:
            return Reply(200, EMPTY)
        values = [[float(form["start"]), first], [float(form["end"]), last]]
        series = {"metric": {"instance": "candidate"}, "values": values}
        return Reply(200, {"status": "success", "data": {"resultType": "matrix", "result": [series]}})

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


def test_other_shares_than_before_the_cut_are_judged_too(world) -> None:
    world.run(Unfinished("abc-1", 50), shares=(10, 25))
    assert world.shares == [25]


@pytest.mark.parametrize("answered", [(0, 500), (500, 0)])
def test_both_versions_need_predictions_of_this_step(world, answered) -> None:
    canary = Canary(dataclasses.replace(world.options, least=100, too_little=ROLL_BACK), "abc-1")
    with pytest.raises(CandidateRejectedError, match="too little traffic"):
        canary._enough(Step(10), np.array(answered))
    canary._enough(Step(10), np.array((100, 100)))


def test_a_candidate_that_is_not_ready_is_rejected_after_three_looks(world) -> None:
    world.not_ready_from = 1
    with pytest.raises(CandidateRejectedError, match="not ready at 3 looks in a row"):
        world.run(step_s=60)
    assert world.shares == [10]
    assert world.looks == 4


def test_two_looks_are_no_reason(world) -> None:
    world.not_ready_from, world.ready_again = 1, 3
    world.run()
    assert world.shares == [10, 50]


@pytest.mark.parametrize(("last", "rejected"), [("100", False), ("160", True)])
def test_a_candidate_that_has_started_again_is_rejected(world, last, rejected) -> None:
    world.series = {"deployment_info": ("1", "1"), "process_start_time_seconds": ("100", last)}
    if rejected:
        with pytest.raises(CandidateRejectedError, match="started again, 1 times"):
            world.run()
    else:
        world.run()
    assert world.shares == ([10] if rejected else [10, 50])


def test_silence_of_prometheus_is_a_reason_at_the_end_of_a_step(world) -> None:
    world.silent_from = 4
    with pytest.raises(
        CandidateRejectedError, match=r"Prometheus has not answered for \d+ s: .*out of order"
    ):
        world.run()
    assert world.shares == [10]


def test_silence_of_prometheus_is_a_reason_before_a_long_step_ends(world, monkeypatch) -> None:
    monkeypatch.setattr(steps, "_BLIND_S", 0.3)
    world.silent_from = 4
    with pytest.raises(CandidateRejectedError, match=r"has not answered for \d+ s: .*out of order"):
        world.run(step_s=HANG_S)
    assert world.shares == [10]


def test_silence_at_the_start_is_a_reason_too(world) -> None:
    world.silent_from = 0
    with pytest.raises(CandidateRejectedError, match="out of order"):
        world.run()
    assert world.shares == []
