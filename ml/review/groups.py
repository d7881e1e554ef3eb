"""Near-duplicates among photos, so that one decision can count for all of them."""

from collections.abc import Sequence

import numpy as np

from ml.data.hamming import first_near

MAX_GROUP = 6
"""Photos of one group: all of them are on the page, so that nobody decides about a photo unseen."""


def group(codes: Sequence[bytes], max_bits: int) -> list[list[int]]:
    """Return the rows of photos that belong together, in their order.

    Args:
        codes: 32 bytes per photo, see `ml.data.duplicates.difference_hash`.
        max_bits: number of bits in which near-duplicates may differ; -1: each photo is a group of its own.
    """
    if max_bits < 0 or not codes:
        return [[row] for row in range(len(codes))]
    array = np.frombuffer(b"".join(codes), np.uint64).reshape(-1, 4)
    leaders: list[int] = []
    groups: dict[int, list[list[int]]] = {}
    for row, near in enumerate(first_near(array, array, max_bits).tolist()):
        leaders.append(row if near == row else leaders[near])
        parts = groups.setdefault(leaders[row], [[]])
        if len(parts[-1]) == MAX_GROUP:
            parts.append([])
        parts[-1].append(row)
    return sorted((part for parts in groups.values() for part in parts), key=lambda part: part[0])
