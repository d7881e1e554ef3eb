"""Series of Prometheus over a period, and values at its end."""

import contextlib
import copy
import math
import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from monitoring.client import Prometheus, PrometheusError
from scripts.common.web import RequestError, check_header, checked_url, printable

Values = NDArray[np.float64]
_POINTS = 240
_RATE_S, _SPAN_S = 300, 30
"""Shortest windows of $rate and $span; they grow with the distance between two points."""
_CHECK_S = 10.0
"""For the first answer, with all attempts."""


@dataclass(frozen=True)
class Period:
    """A period, in seconds since 1970, and the distance between its points, in seconds."""

    start: int
    end: int
    step: int

    @classmethod
    def before(cls, end: float, hours: float) -> "Period":
        """Return the period of that length before `end`, rounded up to whole steps."""
        seconds = max(60, round(hours * 3600))
        step = max(1, math.ceil(seconds / _POINTS))
        return cls(int(end) - math.ceil(seconds / step) * step, int(end), step)

    @property
    def seconds(self) -> int:
        """Its length."""
        return self.end - self.start

    def times(self) -> Values:
        """Return its points."""
        return np.arange(self.start, self.end + 1, self.step, dtype=np.float64)


class Source:
    """The data of one job in a period.

    In a query, `$job` stands for the matcher of the job, `$range` for the length of the period, `$rate` for
    the window of a rate, and `$span` for the distance between two points, so that no sample is missed.
    """

    def __init__(self, url: str, token: str, job: str, period: Period, timeout_s: float) -> None:
        """Connect to nothing yet.

        Args:
            url: of Prometheus.
            token: Bearer token; empty: none.
            job: the job's name in Prometheus.
            period: that the queries cover.
            timeout_s: how long Prometheus may take to answer a query.

        Raises:
            RequestError: the URL or the token is not valid.
        """
        check_header("PROMETHEUS_TOKEN", token)
        self.url, self.job, self.period = checked_url(url), job, period
        self.rate_s = max(_RATE_S, 2 * period.step)
        """Window of a rate."""
        self._prometheus = Prometheus(self.url, token, timeout_s)
        self._placeholders = {
            "$job": f'job="{job}"',
            "$range": f"{period.seconds}s",
            "$rate": f"{self.rate_s}s",
            "$span": f"{max(_SPAN_S, period.step)}s",
        }

    def before(self) -> "Source":
        """Return the data of the period before, which is as long."""
        earlier, length = copy.copy(self), self.period.seconds
        start, end = self.period.start - length, self.period.end - length
        earlier.period = replace(self.period, start=start, end=end)
        return earlier

    def check(self, within_s: float = _CHECK_S) -> None:
        """Return if Prometheus answers; raise RequestError if not, after some seconds at most.

        The time-outs of a request bound neither name resolution nor the number of a name's addresses.
        """
        answer: Future[float] = Future()

        def ask() -> None:
            try:
                answer.set_result(self.value("vector(1)"))
            except RequestError as error:
                answer.set_exception(error)

        threading.Thread(target=ask, daemon=True).start()
        try:
            answer.result(within_s)
        except TimeoutError:
            reason = f"no answer within {within_s:g} s; is this the URL of Prometheus?"
            raise RequestError(f"{self.url}: {reason}") from None

    def series(self, query: str, label: str = "") -> dict[str, Values]:
        """Return each series of a query at the points of the period, NaN where it has no finite value.

        Args:
            query: in PromQL.
            label: its values name the series, so no two series may have the same.

        Raises:
            RequestError: Prometheus does not answer, or rejects the query.
        """
        period, times = self.period, self.period.times()
        series = {}
        with _as_request_error():
            result = self._prometheus.between(self._expanded(query), period.start, period.end, period.step)
        for labels, samples in result:
            values = np.full(len(times), np.nan)
            for time, text in samples:
                index = round((float(time) - period.start) / period.step)
                if 0 <= index < len(times):
                    values[index] = _finite(text)
            if np.isfinite(values).any():
                series[printable(labels.get(label, ""))] = values
        return dict(sorted(series.items()))

    def values(self, query: str, label: str = "") -> dict[str, float]:
        """Return the finite values of a query at the end of the period, by a label.

        Raises:
            RequestError: Prometheus does not answer, or rejects the query.
        """
        with _as_request_error():
            result = self._prometheus.at(self._expanded(query), self.period.end)
        values = {printable(labels.get(label, "")): _finite(sample[1]) for labels, sample in result}
        return {name: value for name, value in sorted(values.items()) if math.isfinite(value)}

    def value(self, query: str) -> float:
        """Return the only value of a query, NaN without one; raise as `values`."""
        return next(iter(self.values(query).values()), math.nan)

    def _expanded(self, query: str) -> str:
        return re.sub(r"\$[a-z]+", lambda name: self._placeholders[name[0]], query)


@contextlib.contextmanager
def _as_request_error() -> Iterator[None]:
    try:
        yield
    except PrometheusError as error:
        raise RequestError(str(error)) from None


def _finite(text: object) -> float:
    try:
        value = float(str(text))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
