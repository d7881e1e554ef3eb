"""The model against measurement: the same load for real instances and for the simulated fleet."""

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from scripts.common.process import ProcessError
from scripts.fleet.pods import Limits
from scripts.fleet.simulation import Fleet, Load
from scripts.fleet.times import Seconds, Times, occupying
from scripts.load_test import run
from scripts.stress.client import Client

_SIMULATED = 20_000
_WAITING = 3  # photos in flight per worker when all are to be busy


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


def service_times(client: Client, photos: Sequence[bytes], count: int, workers: int, seed: int) -> Times:
    """Measure what a photo takes: with single photos, and with workers that are all busy.

    Before each single photo is a pause, as long as an answer on average: a CPU that was idle begins slowly.

    Args:
        client: of the balancer.
        photos: what is sent.
        count: of the single photos; per worker, as many are sent to busy ones.
        workers: of all instances.
        seed: of the random photos.

    Raises:
        ProcessError: a photo is not answered.
    """
    chance = random.Random(seed)  # noqa: S311

    def send(photo: bytes, *others: int) -> int:
        response = client.send("POST", "/predict", photo)
        if response.status not in (200, *others):
            raise ProcessError(f"/predict answers {response.status}: {response.data[:200]!r}")
        return response.status

    singles: list[float] = []
    for photo in chance.choices(photos, k=count):
        time.sleep(chance.expovariate(len(singles) / sum(singles)) if singles else 0)
        begin = time.perf_counter()
        send(photo)
        singles.append(time.perf_counter() - begin)
    many = chance.choices(photos, k=count * workers)
    with ThreadPoolExecutor(_WAITING * workers) as senders:
        begin = time.perf_counter()
        statuses = list(senders.map(lambda photo: send(photo, 503), many))
        occupied_s = workers * (time.perf_counter() - begin) / max(1, statuses.count(200))
    return occupying(np.array(singles), occupied_s)


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
        singles: photos by which the service times are measured, each time, and as many per worker.
        seed: of the random moments and photos.

    Returns:
        The prediction, the measurement, and by which share the service times rose meanwhile.
    """
    workers = pods * limits.workers
    before = service_times(client, photos, singles, workers, 2 * seed)
    rate = load * workers / before.mean
    measurement = measured(client, photos, rate, seconds, 2 * seed)
    after = service_times(client, photos, singles, workers, 2 * seed + 1)
    overhead_s = (before.overhead_s + after.overhead_s) / 2
    times = Times(np.concatenate([before.service, after.service]), overhead_s)
    prediction = predicted(times, limits, pods, balance, rate)
    return prediction, measurement, after.mean / before.mean - 1


def predicted(times: Times, limits: Limits, pods: int, balance: str, rate: float) -> Figures:
    """Return what the model expects of that load."""
    load = Load(rate, seconds=_SIMULATED / rate, warm_up_s=_SIMULATED / rate / 10)
    outcome = Fleet(times, limits, pods, balance, 1).run(load)
    return _figures(outcome.latencies_s, outcome.rejected, rate)
