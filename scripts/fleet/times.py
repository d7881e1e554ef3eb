"""Service times that were measured: how long a photo occupies a worker."""

import math
import re
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
_QUANTILES = (np.arange(2000) + 0.5) / 2000
_DAY_MS = 86_400_000


class TimesError(Exception):
    """A file has no service times; the message is for the user."""


class Times(NamedTuple):
    """What a photo takes.

    Attributes:
        service: times for which photos occupied a worker, in seconds; the simulation draws from them.
        overhead_s: time of a response during which no worker is occupied, such as that of the network.
    """

    service: Seconds
    overhead_s: float = 0.0

    @property
    def mean(self) -> float:
        """Mean service time, in seconds."""
        return float(self.service.mean())


def occupying(latencies_s: Seconds, occupied_s: float) -> Times:
    """Return the times of photos that occupy a worker for that long on average.

    Args:
        latencies_s: of single photos, none of which waits; what is longer than `occupied_s` is overhead.
        occupied_s: the number of workers divided by the answers per second, while all of them are busy.
    """
    single_s = float(latencies_s.mean())
    return Times(latencies_s * (occupied_s / single_s), max(0.0, single_s - occupied_s))


def read(path: Path) -> Times:
    """Read a file of milliseconds, one per line, or what scripts.load_test or scripts.bench printed.

    From such output, which has only the median and the 99th percentile, the distribution is taken to be
    lognormal.

    Raises:
        TimesError: the file is neither.
        OSError: it can't be read.
    """
    try:
        text = path.read_text("utf-8")
        return parse(text)
    except (ValueError, TimesError) as error:
        raise TimesError(f"{path}: {error}") from None


def parse(text: str) -> Times:
    """Return the times in the text of such a file; raises TimesError."""
    if "connections" in text:
        return _of_bench(text)
    if answered := re.search(r"^200 +\d+ +[\d.]+ +([\d.]+) +([\d.]+)", text, re.MULTILINE):
        return Times(_lognormal(float(answered[1]), float(answered[2])))
    try:
        values = np.array([float(line) for line in text.split()])
    except ValueError:
        raise TimesError(
            "expected milliseconds, one per line, or the output of scripts.load_test or scripts.bench"
        ) from None
    if not len(values) or not (np.isfinite(values) & (values > 0) & (values < _DAY_MS)).all():
        raise TimesError("expected positive numbers of milliseconds")
    return Times(values / 1000)


def _of_bench(text: str) -> Times:
    """Return the times behind the table of scripts.bench.

    Under full load each worker is always busy, so the mean service time is the number of workers divided by
    the rate. What a response takes beyond that, with one connection, is overhead.
    """
    workers = re.search(r"^workers: (\d+),", text, re.MULTILINE)
    rows = [[float(cell) for cell in line.split()] for line in text.splitlines() if _is_row(line)]
    if not workers or not rows or any(row[1] <= 0 for row in rows):
        raise TimesError("expected the whole output of scripts.bench")
    fewest, fastest = min(rows), max(rows, key=lambda row: row[1])
    if fewest[0] != 1:
        raise TimesError("expected output of scripts.bench with 1 connection, among others")
    return occupying(_lognormal(*fewest[-2:]), int(workers[1]) / fastest[1])


def _is_row(line: str) -> bool:
    return len(line.split()) == 9 and re.fullmatch(r"[\d. ]+", line) is not None


def _lognormal(median_ms: float, p99_ms: float) -> Seconds:
    """Return evenly spread quantiles of the lognormal distribution with these two."""
    if not 0 < median_ms <= p99_ms < _DAY_MS:
        raise TimesError("expected a median and a 99th percentile above 0")
    normal = np.array([NormalDist().inv_cdf(share) for share in _QUANTILES])
    sigma = math.log(p99_ms / median_ms) / NormalDist().inv_cdf(0.99)
    values: Seconds = median_ms / 1000 * np.exp(sigma * normal)
    return values
