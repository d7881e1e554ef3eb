"""Reads from Prometheus what two versions of the service have counted over the same minutes.

The candidate's instances are those whose `deployment_info` has the candidate's name (the setting DEPLOYMENT);
all others of the job are the champion's. Feedback may reach any instance, so it is read by the model that
gave the answer.
"""

import math
import time
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from deploy.canary.counts import Counts, counts, from_zero, increases
from deploy.canary.rules import FEEDBACK, LABELS, MAX_POINTS, UNKNOWN
from deploy.canary.sequential import Array
from monitoring.client import Prometheus, PrometheusError

_MAX_SERIES = 20_000
_ROUTE = 'route=~"/predict|/v2/.+/infer"'
_UNSURE = "0.8"
_SLOW_S = 1.0
_DIGITS = 6  # of the model's SHA-256 in feedback_by_model_total
_Labels = dict[str, str]
_Table = list[tuple[_Labels, Array]]


class Reader:
    """What both versions count from `begin` on.

    Args:
        prometheus: where.
        job: the service's job in Prometheus.
        deployment: the candidate's DEPLOYMENT.
        step_s: length of a block, in seconds.
    """

    def __init__(self, prometheus: Prometheus, job: str, deployment: str, step_s: float) -> None:
        self._prometheus, self._job, self._deployment, self._step_s = prometheus, job, deployment, step_s
        self._slow_s, self._start, self._restarts = _SLOW_S, 0.0, 0
        self._mixed: set[str] = set()

    def instances(self) -> int:
        """Return how many instances of the service Prometheus knows now; raises PrometheusError."""
        return len(self._prometheus.at(self._query("group by (instance) (model_info{$job})"), time.time()))

    def begin(self) -> None:
        """Set the bound of slow predictions, and count from one block later on; raises PrometheusError.

        The bound is that of the histogram at or above the 99th percentile of the hour before.
        """
        now, buckets = time.time(), f"http_request_duration_seconds_bucket{{$job,{_ROUTE}}}"
        bounds = {float(one["le"]) for one, _ in self._at(f"group by (le) ({buckets})", now)}
        p99 = self._at(f"histogram_quantile(0.99, sum by (le) (rate({buckets}[1h])))", now)
        value = float(p99[0][1][1]) if p99 else math.nan
        finite = sorted(bound for bound in bounds if math.isfinite(bound))
        if finite:
            self._slow_s = next(
                (b for b in finite if b >= (_SLOW_S if math.isnan(value) else value)), finite[-1]
            )
        self._start = now + self._step_s  # requests of the smoke test are in earlier scrapes

    @property
    def slow_s(self) -> float:
        """Bound of slow predictions, in seconds."""
        return self._slow_s

    @property
    def restarts(self) -> int:
        """How often processes of the candidate had started again when `read` was last called.

        The service cannot count the requests that a crash costs; only a proxy can.
        """
        return self._restarts

    def read(self) -> dict[tuple[str, str], Counts]:
        """Return the counts of whole blocks, by rule and label (see `deploy.canary.judge.judge`).

        Raises:
            PrometheusError: it does not answer, or with more than it should.
        """
        points = min(int((time.time() - self._start) / self._step_s) + 1, MAX_POINTS)
        if points < 2:
            return {}
        self._mixed = set()
        table = self._table(f'deployment_info{{$job,deployment="{self._deployment}"}}', points)
        named = {labels["instance"]: np.isfinite(values) for labels, values in table}
        starts = self._table("process_start_time_seconds{$job}", points)
        # An address at which both versions have answered, such as the proxy's, says nothing about either.
        self._mixed = {
            labels["instance"]
            for labels, values in starts
            if (np.isfinite(values) & ~named.get(labels["instance"], np.array(True))).any()
        }
        candidates = named.keys() - self._mixed

        def both(table: _Table) -> tuple[Array, Array]:
            """Return the increases of champion and candidate."""
            arms: tuple[list[Array], list[Array]] = ([], [])
            for labels, values in table:
                arms[labels["instance"] in candidates].append(values)
            return increases(arms[0], points), increases(arms[1], points)

        own = [values for labels, values in starts if labels["instance"] in candidates]
        self._restarts = sum(max(len(np.unique(one[np.isfinite(one)])) - 1, 0) for one in own)
        requests = self._table('sum by (instance) (http_requests_total{$job,method="POST"})', points)
        errors = self._table(
            'sum by (instance) (http_requests_total{$job,method="POST",status=~"5.."})', points
        )
        duration = f"http_request_duration_seconds_%s{{$job,{_ROUTE}%s}}"
        timed = self._table(f"sum by (instance) ({duration % ('count', '')})", points)
        within = duration % ("bucket", f',le=~"{_le(self._slow_s)}"')
        fast = self._table(f"sum by (instance) ({within})", points)
        predictions = self._table("sum by (instance, label) (predictions_total{$job})", points)
        sure = self._table("sum by (instance) (prediction_confidence_count{$job})", points)
        unsure = self._table(
            f'sum by (instance) (prediction_confidence_bucket{{$job,le="{_UNSURE}"}})', points
        )
        slow = tuple(np.maximum(a - f, 0) for a, f in zip(both(timed), both(fast), strict=True))
        result = {
            ("errors", ""): counts(both(requests), both(errors)),
            ("slow", ""): counts(both(timed), (slow[0], slow[1])),
            ("unsure", ""): counts(both(sure), both(unsure)),
        }
        with_class = both([row for row in predictions if row[0]["label"] != UNKNOWN])
        for label in {labels["label"] for labels, _ in predictions}:
            given = both([row for row in predictions if row[0]["label"] == label])
            if label == UNKNOWN:
                result[UNKNOWN, ""] = counts(both(predictions), given)
            else:
                result[LABELS, label] = counts(with_class, given)
        if feedback := self._feedback(candidates, points):
            result[FEEDBACK, ""] = feedback
        return result

    def _feedback(self, candidates: set[str], points: int) -> Counts | None:
        """Return the answers that users judged, and the wrong ones; None if both versions have one model."""
        models: tuple[set[str], set[str]] = (set(), set())
        scraped: dict[str, NDArray[np.bool_]] = defaultdict(lambda: np.zeros(points, bool))
        for labels, values in self._table("group by (instance, sha256) (model_info{$job})", points):
            models[labels["instance"] in candidates].add(labels["sha256"][:_DIGITS])
            scraped[labels["instance"]] |= np.isfinite(values)
        if models[0] & models[1] or not models[1]:
            return None
        judged: Mapping[tuple[bool, bool], list[Array]] = defaultdict(list)
        query = "sum by (instance, model, correct) (feedback_by_model_total{$job})"
        for labels, counter in self._table(query, points):
            if labels["model"] in models[0] | models[1]:
                # The series of another instance's model appears with its first feedback.
                whole = from_zero(counter, scraped[labels["instance"]])
                judged[labels["model"] in models[1], labels["correct"] == "false"].append(whole)
        right = [increases(judged[arm, False], points) for arm in (False, True)]
        wrong = [increases(judged[arm, True], points) for arm in (False, True)]
        return counts((right[0] + wrong[0], right[1] + wrong[1]), (wrong[0], wrong[1]))

    def _table(self, query: str, points: int) -> _Table:
        """Return the values of each series at each point."""
        end = self._start + (points - 1) * self._step_s
        series = self._prometheus.between(self._query(query), self._start, end, self._step_s)
        if len(series) > _MAX_SERIES:
            raise PrometheusError(
                f"{len(series)} series for one metric; more than {_MAX_SERIES} are not read"
            )
        table = []
        for labels, samples in series:
            values = np.full(points, np.nan)
            for moment, text in samples:
                index = round((float(moment) - self._start) / self._step_s)
                if 0 <= index < points:
                    values[index] = float(text)
            if labels.get("instance", "") not in self._mixed:
                table.append(({"instance": ""} | labels, values))
        return table

    def _at(self, query: str, moment: float) -> list[tuple[_Labels, tuple[float, str]]]:
        return self._prometheus.at(self._query(query), moment)

    def _query(self, query: str) -> str:
        return query.replace("$job", f'job="{self._job}"')


def _le(bound: float) -> str:
    """Return a pattern for a bound as Prometheus may have written it: 1 or 1.0."""
    text = f"{bound:g}".replace(".", r"\\.")
    return text if "." in text else rf"{text}(\\.0)?"
