"""Prometheus' HTTP API: series over a period, and figures at its end."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import numpy as np
from common.patient import Client, ServiceError, one_line
from numpy.typing import NDArray

Values = NDArray[np.float64]
_POINTS = 240
_RATE_S, _SPAN_S = 300, 30
"""Shortest windows of rates, and of what is true for a while; longer where points lie further apart."""


@dataclass(frozen=True)
class Period:
    """A stretch of time, in seconds since 1970, and how far apart the points in it are."""

    start: int
    end: int
    step: int

    @classmethod
    def before(cls, end: float, hours: float) -> "Period":
        """Return the period that ends then, longer by part of a step so that the last point is at its end."""
        seconds = max(60, round(hours * 3600))
        step = max(1, math.ceil(seconds / _POINTS))
        return cls(int(end) - math.ceil(seconds / step) * step, int(end), step)

    @property
    def seconds(self) -> int:
        """How long it is."""
        return self.end - self.start

    def times(self) -> Values:
        """Return the points."""
        return np.arange(self.start, self.end + 1, self.step, dtype=np.float64)


class Source:
    """What Prometheus knows of one job in a period.

    In a query, `$job` stands for the matcher of the job, `$range` for the length of the period, `$rate` for
    the window of a rate, and `$span` for the time between two points, so that nothing in between is missed.

    Args:
        url: of Prometheus.
        token: Bearer token, empty: none.
        job: as Prometheus names it.
        period: that is asked for.
        patience_s: how long a query is tried anew.

    Raises:
        ServiceError: the URL is none, or the token can't be sent.
    """

    def __init__(self, url: str, token: str, job: str, period: Period, patience_s: float) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = Client(url, headers, "PROMETHEUS_TOKEN", patience_s)
        self.url, self.job, self.period = self._client.url, job, period
        self.rate_s = max(_RATE_S, 2 * period.step)
        """Window of a rate."""
        self._placeholders = {
            "$job": f'job="{job}"',
            "$range": f"{period.seconds}s",
            "$rate": f"{self.rate_s}s",
            "$span": f"{max(_SPAN_S, period.step)}s",
        }

    def series(self, query: str, label: str = "") -> dict[str, Values]:
        """Return each series of a query at the points of the period, NaN where it has no finite value.

        Args:
            query: in PromQL.
            label: whose values name the series; several of one name are an error of the query.

        Raises:
            ServiceError: Prometheus doesn't answer, or refuses the query.
        """
        period, times = self.period, self.period.times()
        asked = {"start": period.start, "end": period.end, "step": period.step}
        found = {}
        for labels, points in self._ask("/api/v1/query_range", query, asked, "values"):
            values = np.full(len(times), np.nan)
            for when, text in points:
                place = round((float(when) - period.start) / period.step)
                if 0 <= place < len(times):
                    values[place] = _finite(text)
            if np.isfinite(values).any():
                found[one_line(labels.get(label, ""))] = values
        return dict(sorted(found.items()))

    def values(self, query: str, label: str = "") -> dict[str, float]:
        """Return what a query gives at the end of the period, by a label; without what isn't finite."""
        told = self._ask("/api/v1/query", query, {"time": self.period.end}, "value")
        found = {one_line(labels.get(label, "")): _finite(point[1]) for labels, point in told}
        return {name: value for name, value in sorted(found.items()) if math.isfinite(value)}

    def value(self, query: str) -> float:
        """Return the one figure that a query gives, NaN where there is none."""
        return next(iter(self.values(query).values()), math.nan)

    def _ask(
        self, path: str, query: str, asked: Mapping[str, int], key: str
    ) -> list[tuple[dict[str, str], Any]]:
        query = re.sub(r"\$[a-z]+", lambda found: self._placeholders[found[0]], query)
        form = urlencode({"query": query, **asked}).encode()
        answer = self._client.ask("POST", path, form, "application/x-www-form-urlencoded")
        try:
            if answer.status != 200:
                reason = answer.content.get("error") or answer.error
                raise ServiceError(f"{self.url}{path}: {one_line(str(reason))}")
            result = answer.content["data"]["result"]
            return [(dict(one["metric"]), one[key]) for one in result]
        except (KeyError, TypeError, ValueError):
            raise ServiceError(f"{self.url}{path}: not what Prometheus answers") from None


def _finite(text: object) -> float:
    try:
        value = float(str(text))
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
