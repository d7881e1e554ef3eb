"""What the decisions say about the service: its accuracy on the random sample."""

from collections.abc import Iterable
from typing import Any

from ml.data.reviewed import ANOTHER, Entry
from ml.evaluation.metrics import Interval, wilson
from ml.model.manifest import UNKNOWN


def accuracy(entries: Iterable[Entry], confidence: float) -> tuple[Interval, int] | None:
    """Return the share of right answers on the random sample, with its interval, and the number of photos.

    Only the random sample counts, because the other photos were kept for what the model answered. The page
    shows it in an order that does not depend on the answers, and without them. An answer is right if it is
    the class that the person saw, or `unknown` for a photo of none of the classes. Discarded photos do not
    count, nor do answers that are none of the present classes.

    Returns:
        None if no photo that counts is decided.
    """
    sample = [entry for entry in _sample(entries) if entry.answer != ANOTHER]
    right = sum(entry.answer == (entry.label or UNKNOWN) for entry in sample)
    return (wilson(right, len(sample), confidence), len(sample)) if sample else None


def _sample(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.is_random and entry.decision != "discard"]


def _left_out(entries: Iterable[Entry]) -> int:
    """Return how many answers are none of the present classes: the class of a right one may be renamed."""
    return sum(entry.answer == ANOTHER for entry in _sample(entries))


def in_words(entries: Iterable[Entry], confidence: float) -> str:
    """Return the accuracy as a sentence."""
    entries = list(entries)
    measured, left_out = accuracy(entries, confidence), _left_out(entries)
    more = f" Left out: {left_out:,} answers that are none of the present classes." if left_out else ""
    if measured is None:
        return f"Accuracy: nothing of the random sample is decided yet.{more}"
    share, photos = measured
    return (
        f"Accuracy on the random sample: {share.value:.1%} ({confidence:.0%} interval {share.low:.1%} to "
        f"{share.high:.1%}), {photos:,} photos.{more}"
    )


def as_numbers(entries: Iterable[Entry], confidence: float) -> dict[str, Any]:
    """Return the accuracy in all, and under `versions` by version of the model, as plain values.

    `left_out` is the number of answers that are none of the present classes.
    """
    entries = list(entries)
    versions = sorted({entry.version for entry in entries if entry.is_random})
    by_version = {
        version: _plain([entry for entry in entries if entry.version == version], confidence)
        for version in versions
    }
    measured = {"accuracy": _plain(entries, confidence), "versions": by_version}
    return measured | {"left_out": _left_out(entries)}


def _plain(entries: Iterable[Entry], confidence: float) -> dict[str, float] | None:
    measured = accuracy(entries, confidence)
    if measured is None:
        return None
    share, photos = measured
    return {"value": share.value, "low": share.low, "high": share.high, "photos": photos}
