"""The order in which collected photos are shown."""

from ml.model.kept_photos import CONTRADICTED, RANDOM, UNKNOWN, UNSURE, Record

_EVERY = 4  # one item in so many comes from the random sample, as long as there are any


def kind_of(record: Record) -> str:
    """Return the reason that decides where a photo is shown. `random` comes before all others."""
    order = (RANDOM, CONTRADICTED, UNKNOWN, UNSURE)
    return next(reason for reason in order if reason in record.reasons)


def informative_first(record: Record) -> tuple[bool, float, str]:
    """Return a key that sorts the most informative photos to the front.

    First come those whose feedback contradicts the answer. The others count as uncertain by the margin
    between the two likeliest classes (Scheffer et al. 2001), or as unlike the training photos by `known`,
    whichever is more.
    """
    first, second = sorted([*record.answer["probabilities"].values(), 0.0], reverse=True)[:2]
    doubt, known = 1 - (first - second), record.answer["known"]
    unlike = 0.0 if known is None else 1 - known
    return CONTRADICTED not in record.reasons, -max(doubt, unlike), record.id


def mixed(groups: list[list[Record]], sample: list[list[Record]]) -> list[list[Record]]:
    """Put one item of the random sample behind every few others, so that both progress."""
    result: list[list[Record]] = []
    rest = iter(sample)
    for number, part in enumerate(groups, 1):
        result.append(part)
        if number % (_EVERY - 1) == 0 and (one := next(rest, None)):
            result.append(one)
    return [*result, *rest]
