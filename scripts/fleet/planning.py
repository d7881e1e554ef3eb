"""The smallest fleet that answers a load as fast, and rejects as little, as it must."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from scripts.fleet.pods import Limits
from scripts.fleet.simulation import Autoscaler, Fleet, Load, Outcome
from scripts.fleet.times import Times

_SLICE = {"random": 10, "round-robin": 50, "least": 50}
"""Of a larger fleet, a slice of that many pods is simulated, with its share of the photos. The pods of a
fleet are independent if photos are spread at random; otherwise a slice does slightly worse than the fleet."""
_PHOTOS, _WARM_UP = 100_000, 0.2
"""Photos in the simulation of a fleet of constant size, and as a share of them those of the warm-up."""
_FEWEST_PHOTOS, _MOST_PHOTOS = 20_000, 200_000
"""Photos in the simulation of a fleet with an autoscaler."""
_MOST_PODS = 1_000_000


class PlanError(Exception):
    """No number of pods is enough; the message is for the user."""


@dataclass(frozen=True)
class Goal:
    """What the fleet must reach.

    Attributes:
        p99_ms: 99 % of the answers arrive within that many milliseconds.
        rejected: largest share of rejected photos.
    """

    p99_ms: float
    rejected: float

    def met(self, outcome: Outcome) -> bool:
        """Return whether it is reached."""
        return outcome.rejected <= self.rejected and outcome.quantile_ms(0.99) <= self.p99_ms


@dataclass(frozen=True)
class Service:
    """What all fleets have in common: service times, settings of a pod, balancer, seed."""

    times: Times
    limits: Limits
    balance: str
    seed: int

    def busy_workers(self, rate: float) -> float:
        """Return the mean number of busy workers at a rate."""
        return rate * self.times.mean

    def run(self, pods: int, load: Load, autoscaler: Autoscaler | None = None, run: int = 0) -> Outcome:
        """Simulate a fleet that starts with that many pods."""
        fleet = Fleet(self.times, self.limits, pods, self.balance, self.seed + 1000 * run)
        return fleet.run(load, autoscaler)

    def constant(self, pods: int, rate: float) -> Outcome:
        """Simulate a fleet of constant size under a constant rate."""
        part = min(pods, _SLICE[self.balance])
        rate *= part / pods
        outcome = self.run(part, Load(rate, 1.0, _PHOTOS / rate, _WARM_UP * _PHOTOS / rate))
        return _together([outcome], part / pods)


@dataclass(frozen=True)
class Plan:
    """A fleet and what it does."""

    least: int
    """Pods at least: all of them, or the autoscaler's minimum."""
    outcome: Outcome


def constant_fleet(service: Service, rate: float, goal: Goal) -> Plan:
    """Return the smallest fleet of constant size that meets the goal; raises PlanError."""
    alone_ms = 1000 * (float(np.quantile(service.times.service, 0.99)) + service.times.overhead_s)
    if alone_ms >= goal.p99_ms:
        raise PlanError(
            f"without any waiting, 99 % of the answers take up to {alone_ms:.0f} ms; the goal is "
            f"{goal.p99_ms:g} ms"
        )
    outcomes: dict[int, Outcome] = {}

    def meets(pods: int) -> bool:
        outcomes[pods] = service.constant(pods, rate)
        return goal.met(outcomes[pods])

    # With fewer, photos would arrive faster than they are answered.
    least = math.floor(service.busy_workers(rate) / service.limits.workers) + 1
    pods = smallest(meets, least)
    return Plan(pods, outcomes[pods])


def scaled_fleet(service: Service, load: Load, autoscaler: Autoscaler, goal: Goal, most: int) -> Plan:
    """Return the smallest minimum of the autoscaler with which the fleet meets the goal; raises PlanError.

    Args:
        service: what a photo takes.
        load: rate and burst.
        autoscaler: its `least` is what is searched for.
        goal: what the fleet must reach.
        most: number of pods with which the fleet meets the goal without an autoscaler.
    """
    photos = load.rate * load.burst * load.seconds
    share = min(1.0, max(_MOST_PHOTOS / photos, _SLICE[service.balance] / most))
    part = replace(load, rate=load.rate * share)
    runs = math.ceil(min(10.0, _FEWEST_PHOTOS / (photos * share)))
    steady = math.ceil(service.busy_workers(part.rate) / autoscaler.target)
    ceiling = max(1, math.ceil(autoscaler.most * share))
    outcomes: dict[int, Outcome] = {}

    def meets(least: int) -> bool:
        scaler = replace(autoscaler, least=min(least, ceiling), most=ceiling)
        pods = min(max(least, steady), ceiling)
        done = [service.run(pods, part, scaler, run) for run in range(runs)]
        outcomes[least] = _together(done, share)
        met = goal.met(outcomes[least])
        if least >= ceiling and not met:
            raise PlanError(f"{autoscaler.most} pods are not enough: raise --most")
        return met

    least = smallest(meets, 1)
    return Plan(math.ceil(least / share), outcomes[least])


def smallest(meets: Callable[[int], bool], low: int) -> int:
    """Return the smallest number from `low` on that `meets` accepts, which accepts all larger ones, too.

    Raises:
        PlanError: it accepts none within reason.
    """
    high, step = low, 1
    while not meets(high):
        low, high, step = high + 1, high + step, 2 * step
        if high > _MOST_PODS:
            raise PlanError(f"not even {low} pods are enough")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(middle) else (middle + 1, high)
    meets(low)
    return low


def _together(outcomes: list[Outcome], share: float) -> Outcome:
    """Return several runs of a slice as one outcome of the whole fleet."""
    return Outcome(
        np.concatenate([outcome.latencies_s for outcome in outcomes]),
        float(np.mean([outcome.rejected for outcome in outcomes])),
        min(outcome.least_pods for outcome in outcomes) / share,
        max(outcome.most_pods for outcome in outcomes) / share,
        float(np.mean([outcome.mean_pods for outcome in outcomes])) / share,
    )
