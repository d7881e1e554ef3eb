"""What is counted for each rule, from the series of both versions."""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from deploy.canary.reader import Reader

STEP_S = 10.0
PREDICTIONS: Mapping[tuple[str, str], int] = {
    ("champion", "cat"): 30, ("champion", "dog"): 50, ("champion", "unknown"): 20,
    ("candidate", "cat"): 4, ("candidate", "dog"): 5, ("candidate", "unknown"): 1,
}  # fmt: skip
"""How many of each label both versions give in a block."""


class Prometheus:
    """Has these predictions, the instances of both versions, and nothing else."""

    def at(self, query: str, moment: float) -> list[Any]:
        return []

    def between(self, query: str, start: float, end: float, step_s: float) -> list[Any]:
        def series(labels: dict[str, str], first: float, last: float) -> tuple[Any, ...]:
            return labels, [(start, str(first)), (end, str(last))]

        if "predictions_total" in query:
            return [
                series({"instance": instance, "label": label}, 100, 100 + count)
                for (instance, label), count in PREDICTIONS.items()
            ]
        names = {"deployment_info": ["candidate"], "process_start_time": ["champion", "candidate"]}
        found = next((names[name] for name in names if name in query), [])
        return [series({"instance": instance}, 1, 1) for instance in found]


def test_shares_of_labels_are_of_the_photos_that_got_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that knows more photos must not look different by that."""
    reader = Reader(Prometheus(), "cats-vs-dogs", "abc-1", STEP_S)  # type: ignore[arg-type]
    reader.begin()
    now = time.time() + 2 * STEP_S
    monkeypatch.setattr(time, "time", lambda: now)
    found = {
        rule: (counts.trials.sum(1).tolist(), counts.events.sum(1).tolist())
        for rule, counts in reader.read().items()
    }
    assert found["labels", "cat"] == ([80, 9], [30, 4])
    assert found["labels", "dog"] == ([80, 9], [50, 5])
    assert found["unknown", ""] == ([100, 10], [20, 1])
