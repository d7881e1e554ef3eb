"""Counters to counts: restarts, gaps, and instances that come and go."""

import numpy as np
import pytest

from deploy.canary.counts import counts, from_zero, increases

NAN = float("nan")


@pytest.mark.parametrize(
    ("counter", "expected"),
    [
        ([5, 7, 7, 10], [2, 0, 3]),
        ([5, 7, 1, 4], [2, 1, 3]),  # restarted: it has counted 1 since
        ([NAN, 900, 903, 905], [0, 3, 2]),  # what it had counted before is not of this time
        ([5, NAN, 9, 10], [0, 4, 1]),  # a scrape was missed
        ([5, 6, NAN, NAN], [1, 0, 0]),  # the instance is gone
        ([NAN, NAN, NAN, 8], [0, 0, 0]),
    ],
)
def test_increases_of_one_counter(counter, expected) -> None:
    assert increases([np.array(counter, float)], 4).tolist() == expected


def test_a_series_that_appears_with_its_first_event_counts_it() -> None:
    scraped = np.array([False, True, True, True])
    counter = from_zero(np.array([NAN, NAN, 1, 3]), scraped)
    assert increases([counter], 4).tolist() == [0, 1, 2]


def test_instances_add_up() -> None:
    assert increases([np.array([1.0, 2, 4]), np.array([NAN, 5, 9])], 3).tolist() == [1, 6]
    assert increases([], 3).tolist() == [0, 0]
    assert increases([], 0).tolist() == []


def test_there_are_never_more_events_than_observations() -> None:
    two = counts((np.array([3.0]), np.array([1.0])), (np.array([4.0]), np.array([1.0])))
    assert two.trials.tolist() == [[3], [1]]
    assert two.events.tolist() == [[3], [1]]
