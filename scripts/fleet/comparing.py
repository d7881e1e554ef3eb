"""The model against measurement: the same load for real instances and for the simulated fleet."""

import random
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scripts.common.process import ProcessError
from scripts.fleet.pods import Limits
from scripts.fleet.simulation import Fleet, Load
from scripts.fleet.times import Seconds, Times
from scripts.load_test import run
from scripts.stress.client import Client

_SIMULATED = 20_000
_FREE_S = 1e-6  # least service time


class Figures(NamedTuple):
    """What a load gives; latencies are those of answered photos, in milliseconds."""

    rate: float  # answered photos per second
    mean: float
    p50: float
    p99: float
    rejected: float  # share of the photos


def _figures(latencies_s: Seconds, rejected: float, rate: float) -> Figures:
    """Return the figures of these latencies; `rate` is that of all photos."""
    p50, p99 = (1000 * float(value) for value in np.quantile(latencies_s, (0.5, 0.99)))
    return Figures(rate * (1 - rejected), 1000 * float(latencies_s.mean()), p50, p99, rejected)


def service_times(client: Client, photos: Sequence[bytes], count: int, seed: int) -> Times:
    """Measure what a photo takes, one after the other, so that none waits.

    /health takes the same way and occupies no worker: its median latency is the overhead.

    Raises:
        ProcessError: a photo is not answered.
    """
    chance = random.Random(seed)  # noqa: S311

    def latency_s(method: str, path: str, body: bytes | None = None) -> float:
        begin = time.perf_counter()
        response = client.send(method, path, body)
        if response.status != 200:
            raise ProcessError(f"{path} answers {response.status}: {response.data[:200]!r}")
        return time.perf_counter() - begin

    pairs = [
        (latency_s("GET", "/health"), latency_s("POST", "/predict", chance.choice(photos)))
        for _ in range(count)
    ]
    health_s, photo_s = np.array(pairs).T
    overhead_s = float(np.median(health_s))
    return Times(np.maximum(photo_s - overhead_s, _FREE_S), overhead_s)


def measured(client: Client, photos: list[bytes], rate: float, seconds: float, seed: int) -> Figures:
    """Send photos at random moments, `rate` per second on average; return the figures.

    Raises:
        ProcessError: there was an answer other than 200 and 503, or no 200.
    """
    latencies = run(client, photos, rate, seconds, seed)
    latencies.pop("/health", None)
    if "200" not in latencies or set(latencies) - {"200", "503"}:
        counts = {name: len(values) for name, values in latencies.items()}
        raise ProcessError(f"unexpected answers: {counts}")
    sent = sum(map(len, latencies.values()))
    return _figures(np.array(latencies["200"]), len(latencies.get("503", [])) / sent, sent / seconds)


def compare(
    client: Client,
    photos: list[bytes],
    limits: Limits,
    pods: int,
    balance: str,
    load: float,
    *,
    seconds: float,
    singles: int,
    seed: int,
) -> tuple[Figures, Figures, float]:
    """Measure a load and predict it, from service times that are measured before and after it.

    Args:
        client: of the balancer.
        photos: what is sent.
        limits: settings of each instance.
        pods: number of instances.
        balance: how the balancer selects one.
        load: photos that arrive while the workers of all instances could answer one.
        seconds: duration of the load.
        singles: photos by which the service times are measured, each time.
        seed: of the random moments and photos.

    Returns:
        The prediction, the measurement, and by which share the service times rose meanwhile.
    """
    before = service_times(client, photos, singles, 2 * seed)
    rate = load * pods * limits.workers / before.mean
    measurement = measured(client, photos, rate, seconds, 2 * seed)
    after = service_times(client, photos, singles, 2 * seed + 1)
    overhead_s = (before.overhead_s + after.overhead_s) / 2
    times = Times(np.concatenate([before.service, after.service]), overhead_s)
    prediction = predicted(times, limits, pods, balance, rate)
    return prediction, measurement, after.mean / before.mean - 1


def predicted(times: Times, limits: Limits, pods: int, balance: str, rate: float) -> Figures:
    """Return what the model expects of that load."""
    load = Load(rate, seconds=_SIMULATED / rate, warm_up_s=_SIMULATED / rate / 10)
    outcome = Fleet(times, limits, pods, balance, 1).run(load)
    return _figures(outcome.latencies_s, outcome.rejected, rate)
