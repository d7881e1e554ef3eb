"""Counters of several instances, as Prometheus has them, to counts per block."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.canary.sequential import Array


@dataclass(frozen=True)
class Counts:
    """Observations and events in each block, of champion and candidate: two arrays [2, blocks]."""

    trials: Array
    events: Array


def increases(counters: Iterable[Array], points: int) -> Array:
    """Return by how much counters have grown together between each two points.

    A counter that falls was restarted from 0. What it had counted before its first value is not known, and
    left out.

    Args:
        counters: values of each at each point [points], NaN if there is none.
        points: how many there are.

    Returns:
        Array [points - 1].
    """
    total = np.zeros(max(points - 1, 0))
    for counter in counters:
        known = np.flatnonzero(np.isfinite(counter))
        if len(known) < 2:
            continue
        values = counter[known]
        grown = np.diff(values)
        total[known[1:] - 1] += np.where(grown < 0, values[1:], grown)
    return total


def from_zero(counter: Array, scraped: NDArray[np.bool_]) -> Array:
    """Return a counter with 0 where its instance was scraped [points] but had not counted anything yet."""
    return np.where(np.isnan(counter) & scraped, 0.0, counter)


def counts(trials: tuple[Array, Array], events: tuple[Array, Array]) -> Counts:
    """Return counts of both versions; there are never more events than observations."""
    both = np.stack(trials)
    return Counts(both, np.clip(np.stack(events), 0, both))
