"""The simulated fleet against closed forms of queueing theory, and against what must be so."""

import itertools
import math

import numpy as np
import pytest

from scripts.fleet.pods import Limits
from scripts.fleet.simulation import BALANCES, Autoscaler, Fleet, Load, Outcome
from scripts.fleet.times import Times

ENDLESS = Limits(workers=1, queue=10**9, timeout_s=1e9)
EXPONENTIAL = Times(-np.log(1 - (np.arange(20_000) + 0.5) / 20_000))  # quantiles; mean 1 s
CONSTANT = Times(np.ones(1))
RUNS = 12


def simulate(
    times: Times, rate: float, pods: int = 1, limits: Limits = ENDLESS, balance: str = "random", seed: int = 1
) -> Outcome:
    return Fleet(times, limits, pods, balance, seed).run(
        Load(rate, seconds=3000 / rate, warm_up_s=500 / rate)
    )


def erlang_c(workers: int, busy: float) -> float:
    """Probability that an arrival waits in M/M/c."""
    last = busy**workers / math.factorial(workers) * workers / (workers - busy)
    return last / (sum(busy**n / math.factorial(n) for n in range(workers)) + last)


def waits(seeds: range, *arguments: object, **options: object) -> np.ndarray:
    """Mean wait of independent runs, in mean service times."""
    times = arguments[0]
    outcomes = [simulate(*arguments, **options, seed=seed) for seed in seeds]  # type: ignore[arg-type]
    return np.array([outcome.latencies_s.mean() - times.mean for outcome in outcomes])  # type: ignore[attr-defined]


def agrees(measured: np.ndarray, expected: float) -> None:
    error = measured.std(ddof=1) / math.sqrt(len(measured))
    assert abs(measured.mean() - expected) < 4 * error + 0.01 * expected, (measured.mean(), expected, error)


@pytest.mark.parametrize("busy", [0.3, 0.6])
def test_one_worker(busy: float) -> None:
    """M/M/1 and M/D/1: Pollaczek and Khinchine."""
    agrees(waits(range(RUNS), EXPONENTIAL, busy), busy / (1 - busy))
    agrees(waits(range(RUNS), CONSTANT, busy), busy / (1 - busy) / 2)


@pytest.mark.parametrize("workers", [2, 5])
def test_several_workers(workers: int) -> None:
    """M/M/c, also as that many pods of one worker with one queue each: then they are M/M/1."""
    rate = 0.7 * workers
    limits = ENDLESS._replace(workers=workers)
    expected = erlang_c(workers, rate) / (workers - rate)
    agrees(waits(range(RUNS), EXPONENTIAL, rate, limits=limits), expected)
    agrees(waits(range(RUNS), EXPONENTIAL, rate, pods=workers), 0.7 / 0.3)


def test_the_balancer_matters_as_theory_says() -> None:
    """Pods in turn have more even arrivals than pods at random; the least busy one is best."""
    means = [waits(range(4), EXPONENTIAL, 2.8, pods=4, balance=balance).mean() for balance in BALANCES]
    assert means[0] > means[1] > means[2] > 0


@pytest.mark.parametrize("rate", [0.5, 0.9, 2.0])
def test_a_full_queue_rejects(rate: float) -> None:
    """M/M/1/K."""
    places = 4
    expected = (1 - rate) * rate**places / (1 - rate ** (places + 1))
    limits = Limits(workers=1, queue=places - 1, timeout_s=1e9)
    agrees(
        np.array([simulate(EXPONENTIAL, rate, limits=limits, seed=n).rejected for n in range(RUNS)]), expected
    )


def test_who_waits_too_long_is_rejected() -> None:
    outcome = simulate(CONSTANT, 2.0, limits=Limits(workers=1, queue=1000, timeout_s=5))
    assert outcome.rejected == pytest.approx(0.5, abs=0.05)  # half of the photos can be answered
    assert 4 < outcome.quantile_ms(0.5) / 1000 <= outcome.quantile_ms(1) / 1000 <= 5 + 1


def test_the_overhead_adds_to_each_answer() -> None:
    plain, slower = (simulate(Times(EXPONENTIAL.service, overhead), 0.5) for overhead in (0.0, 0.25))
    assert np.allclose(slower.latencies_s, plain.latencies_s + 0.25)


@pytest.mark.parametrize("balance", BALANCES)
def test_more_pods_are_faster_and_reject_less(balance: str) -> None:
    for limits in (ENDLESS, Limits(workers=1, queue=3, timeout_s=10)):
        outcomes = [simulate(EXPONENTIAL, 3.0, pods, limits, balance) for pods in (2, 3, 4, 6, 12)]
        for fewer, more in itertools.pairwise(outcomes):
            if limits is ENDLESS:
                assert more.quantile_ms(0.99) <= 1.02 * fewer.quantile_ms(0.99)
            else:
                assert more.rejected < fewer.rejected or more.rejected == 0


def test_a_seed_determines_everything() -> None:
    scaler = Autoscaler(target=0.5, least=1)
    first, again, other = (
        Fleet(EXPONENTIAL, Limits(), 2, "random", seed).run(Load(2.0, 2.0), scaler) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.latencies_s, again.latencies_s)
    assert (first.mean_pods, first.rejected) == (again.mean_pods, again.rejected)
    assert not np.array_equal(first.latencies_s, other.latencies_s)


def test_the_autoscaler_adds_pods_for_a_burst() -> None:
    fast = Times(CONSTANT.service / 10)
    load = Load(10.0, burst=4.0, seconds=600, warm_up_s=300)
    scaled = Fleet(fast, Limits(), 3, "least", 1).run(load, Autoscaler(target=0.5, least=1, start_s=20))
    # 1 photo in flight without a burst: 2 pods; 10 % more or less change nothing. In the burst, 4 and those
    # that wait until pods have started, which call for more pods than are needed in the end.
    assert 2 <= scaled.least_pods <= 4
    assert scaled.most_pods >= 8
    assert scaled.least_pods < scaled.mean_pods < scaled.most_pods
    fixed = Fleet(fast, Limits(), 3, "least", 1).run(load)
    assert fixed.rejected > 0.1 > scaled.rejected


def test_a_slow_start_costs_answers() -> None:
    load = Load(10.0, burst=4.0, seconds=300)
    rejected = [
        Fleet(Times(CONSTANT.service / 10), Limits(), 2, "least", 1)
        .run(load, Autoscaler(target=0.5, least=1, start_s=start_s))
        .rejected
        for start_s in (1, 60, 200)
    ]
    assert rejected[0] < rejected[1] < rejected[2]


def test_pods_are_removed_only_after_the_stabilization() -> None:
    """They start with ten times what they need."""
    fast = Times(CONSTANT.service / 10)
    pods = [
        Fleet(fast, Limits(), 20, "random", 1)
        .run(Load(10.0, seconds=250, warm_up_s=1), Autoscaler(0.5, least=1, stabilization_s=window))
        .least_pods
        for window in (30, 300)
    ]
    assert pods[0] < 6
    assert pods[1] == 20


def test_the_autoscaler_keeps_its_bounds() -> None:
    scaler = Autoscaler(target=0.5, least=3, most=5)
    outcome = Fleet(CONSTANT, Limits(), 3, "random", 1).run(Load(0.1, burst=200, seconds=600), scaler)
    assert (outcome.least_pods, outcome.most_pods) == (3, 5)
