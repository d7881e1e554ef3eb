"""The simulated fleet: photos arrive at random, a balancer spreads them over pods, an autoscaler adjusts."""

import math
from collections import deque
from dataclasses import dataclass
from functools import partial

import numpy as np
import simpy

from scripts.fleet.pods import Limits, Pod, Request, Steps
from scripts.fleet.times import Seconds, Times

BALANCES = ("random", "round-robin", "least")
"""How the balancer selects a pod: at random (a Service of Kubernetes), in turn, or the one with the fewest
photos in flight."""

_SCRAPE_S = 1.0
_TOLERANCE = 0.1
"""Relative distance from the target within which a HorizontalPodAutoscaler changes nothing."""


@dataclass(frozen=True)
class Autoscaler:
    """A HorizontalPodAutoscaler on the photos in flight, those that wait included.

    Attributes:
        target: photos in flight per pod that it aims at.
        least: fewest pods.
        most: most pods.
        start_s: from the decision to a pod that is ready: scheduling, image, model, readiness probe.
        every_s: time between two decisions; each uses the mean of the metric since the one before.
        stabilization_s: it removes pods only if it would have done so for that long.
    """

    target: float
    least: int
    most: int = 1_000_000
    start_s: float = 10.0
    every_s: float = 15.0
    stabilization_s: float = 300.0


@dataclass(frozen=True)
class Load:
    """Photos that arrive independently of each other (a Poisson process).

    Attributes:
        rate: photos per second.
        burst: factor by which the rate rises after the warm-up.
        seconds: how long that lasts; all figures are about this time.
        warm_up_s: seconds before it.
    """

    rate: float
    burst: float = 1.0
    seconds: float = 300.0
    warm_up_s: float = 60.0


@dataclass(frozen=True)
class Outcome:
    """What happened to the photos that arrived after the warm-up."""

    latencies_s: Seconds
    """Latency of each answered photo, in seconds."""
    rejected: float
    """Share of the photos that got 503."""
    least_pods: float
    most_pods: float
    mean_pods: float
    """Pods, those that start included."""

    def quantile_ms(self, share: float) -> float:
        """Return a quantile of the latency in milliseconds; infinite if no photo was answered."""
        return 1000 * float(np.quantile(self.latencies_s, share)) if len(self.latencies_s) else math.inf


class Fleet:
    """One simulation.

    Args:
        times: what a photo takes.
        limits: settings of each pod.
        pods: number of pods at the start; without an autoscaler also later.
        balance: one of BALANCES.
        seed: of the random numbers; the same seed gives the same photos, whatever the fleet.
    """

    def __init__(self, times: Times, limits: Limits, pods: int, balance: str, seed: int) -> None:
        self._env = simpy.Environment()
        self._times, self._limits, self._balance = times, limits, balance
        self._chance = np.random.default_rng(seed)
        self._choice = np.random.default_rng((seed, 1))
        self._finished: list[tuple[float, float]] = []  # arrival and latency; infinite: rejected
        self._new_pod = partial(Pod, self._env, limits, self._answered, self._rejected)
        self._pods = [self._new_pod() for _ in range(pods)]
        self._starting, self._turn = 0, 0
        self._counts = [(0.0, pods)]  # number of pods from each moment on

    def run(self, load: Load, autoscaler: Autoscaler | None = None) -> Outcome:
        """Simulate the load, and return what happened after its warm-up."""
        self._env.process(self._arrivals(load))
        if autoscaler:
            self._env.process(self._scale(autoscaler))
        end = load.warm_up_s + load.seconds
        self._env.run(end)
        counts = np.array([*self._counts, (end, self._counts[-1][1])])
        self._env.run(end + self._limits.timeout_s + float(self._times.service.max()))  # all have left
        finished = np.array(self._finished).reshape(-1, 2)
        latencies = finished[finished[:, 0] >= load.warm_up_s, 1]
        begins = np.maximum(counts[:, 0], load.warm_up_s)
        lasted, pods = np.diff(begins), counts[:-1, 1]
        answered = latencies[np.isfinite(latencies)]
        return Outcome(
            answered + self._times.overhead_s,
            1 - len(answered) / max(1, len(latencies)),
            float(pods[lasted > 0].min()),
            float(pods[lasted > 0].max()),
            float((pods * lasted).sum() / load.seconds),
        )

    def _answered(self, request: Request) -> None:
        self._finished.append((request.arrived, self._env.now - request.arrived))

    def _rejected(self, request: Request) -> None:
        self._finished.append((request.arrived, math.inf))

    def _arrivals(self, load: Load) -> Steps:
        moments = [self._moments(0.0, load.warm_up_s, load.rate)]
        moments.append(self._moments(load.warm_up_s, load.seconds, load.rate * load.burst))
        arrivals = np.concatenate(moments)
        services = self._chance.choice(self._times.service, len(arrivals))
        for arrived, service_s in zip(arrivals.tolist(), services.tolist(), strict=True):
            yield self._env.timeout(arrived - self._env.now)
            self._select().receive(Request(self._env.now, service_s))

    def _moments(self, start: float, seconds: float, rate: float) -> Seconds:
        """Return the moments of a Poisson process: its number of events is random, each at any moment."""
        return start + np.sort(self._chance.uniform(0, seconds, self._chance.poisson(rate * seconds)))

    def _select(self) -> Pod:
        pods = self._pods
        if self._balance == "random":
            return pods[int(self._choice.random() * len(pods))]
        self._turn = (self._turn + 1) % len(pods)
        if self._balance == "round-robin":
            return pods[self._turn]
        return min(pods[self._turn :] + pods[: self._turn], key=lambda pod: pod.in_flight)

    def _scale(self, autoscaler: Autoscaler) -> Steps:
        memory = max(1, math.ceil(autoscaler.stabilization_s / autoscaler.every_s))
        wishes = deque([len(self._pods)], memory)
        while True:
            samples = []
            for _ in range(max(1, round(autoscaler.every_s / _SCRAPE_S))):
                yield self._env.timeout(_SCRAPE_S)
                samples.append(sum(pod.in_flight for pod in self._pods))
            pods = len(self._pods) + self._starting
            wish = math.ceil(float(np.mean(samples)) / autoscaler.target)
            if abs(float(np.mean(samples)) / autoscaler.target / pods - 1) <= _TOLERANCE:
                wish = pods
            # By default, a HorizontalPodAutoscaler doubles the pods at most, or adds 4, in 15 s.
            wish = min(wish, max(2 * pods, pods + 4), autoscaler.most)
            wishes.append(max(wish, autoscaler.least))
            for _ in range(wishes[-1] - pods):
                self._starting += 1
                self._env.process(self._start(autoscaler.start_s))
            for _ in range(min(pods - max(wishes), len(self._pods) - 1)):
                self._pods.pop()  # it answers what it has, and gets nothing more
            self._counts.append((self._env.now, len(self._pods) + self._starting))

    def _start(self, start_s: float) -> Steps:
        yield self._env.timeout(start_s)
        self._starting -= 1
        self._pods.append(self._new_pod())
