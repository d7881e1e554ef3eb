"""Search for codes of 256 bits that differ in few bits, in time that grows almost linearly.

The bits are divided into bands. Two codes that differ in at most `max_bits` bits differ by at most one bit in
at least one band, if there are more than `max_bits / 2` bands (multi-index hashing: Norouzi et al. 2012). So
each band is looked up with no and with one flipped bit, and only codes that agree so far are compared.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint64]
"""Codes of 256 bits, [N, 4]."""

_BITS = 256
_MIN_BANDS = 8  # so that a band has at most 32 bits
_BLOCK = 1 << 18  # codes that are indexed at once: 60 MB
_PAIRS = 1 << 18  # pairs that are compared at once: 30 MB
_LOW = np.uint64(0xFFFFFFFF)


def first_near(queries: Codes, codes: Codes, max_bits: int) -> NDArray[np.int64]:
    """Return the row in `codes` of the first one that differs from each query in at most `max_bits` bits.

    Args:
        queries: [M, 4].
        codes: [N, 4].
        max_bits: from 0 to 256; above 32, the time grows with M * N.

    Returns:
        Rows [M]; -1: there is no such code.
    """
    if not len(queries) or not len(codes):
        return np.full(len(queries), -1, np.int64)
    # Equal codes, of which there may be very many, are compared once. Of equal codes, the first one counts.
    queries, inverse = np.unique(queries, axis=0, return_inverse=True)
    rows = np.sort(np.unique(codes, axis=0, return_index=True)[1])
    codes = codes[rows]
    best = np.full(len(queries), len(codes), np.uint64)
    bands, radius = _bands(max_bits)
    for band in bands:
        keys = _keys(queries, band)
        order = np.argsort(keys)  # neighbouring searches in sorted keys are several times as fast
        keys = keys[order] << np.uint64(32)
        for first in range(0, len(codes), _BLOCK):
            index = _index(codes[first : first + _BLOCK], band, radius, first)
            begin = np.searchsorted(index, keys)
            end = np.searchsorted(index, keys | best[order])  # only codes before the best one so far
            _compare(queries, codes, order, index, begin, end, best, max_bits)
    nearest = np.append(rows, -1)[best.astype(np.int64)]
    return nearest[inverse.reshape(-1)]


def _bands(max_bits: int) -> tuple[list[NDArray[np.int64]], int]:
    """Divide the bits into bands; also return how many bits of one band must be tried flipped.

    The bits of a band are far apart in a photo: neighbouring bits often agree, and then tell little.
    """
    count = max(_MIN_BANDS, max_bits // 2 + 1)
    shuffled = np.random.default_rng(0).permutation(_BITS)
    return np.array_split(shuffled, count), max_bits // count


def _keys(codes: Codes, band: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the bits of a band of each code as one number, [N]."""
    keys = np.zeros(len(codes), np.uint64)
    for place, bit in enumerate(band.tolist()):
        word, shift = divmod(bit, 64)
        keys |= ((codes[:, word] >> np.uint64(shift)) & np.uint64(1)) << np.uint64(place)
    return keys


def _index(codes: Codes, band: NDArray[np.int64], radius: int, first: int) -> NDArray[np.uint64]:
    """Return the sorted entries of a band: its bits, with none or one flipped, above the code's row."""
    flips = np.array([0, *(1 << place for place in range(len(band)))][: None if radius else 1], np.uint64)
    rows = np.arange(first, first + len(codes), dtype=np.uint64)
    entries = ((_keys(codes, band)[:, None] ^ flips) << np.uint64(32)) | rows[:, None]
    return np.sort(entries, axis=None)


def _compare(
    queries: Codes,
    codes: Codes,
    order: NDArray[np.int64],
    index: NDArray[np.uint64],
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    best: NDArray[np.uint64],
    max_bits: int,
) -> None:
    """Compare query `order[i]` with the entries from `begin[i]` to `end[i]`, up to the first that is near.

    Its row goes to `best`. Each round takes more entries than the one before, so that a query
    which is near to many codes ends early.
    """
    step, left = 8, np.flatnonzero(begin < end)
    while left.size:
        for part in _parts(left, step):
            count = np.minimum(end[part] - begin[part], step)
            owner = np.repeat(np.arange(part.size), count)
            place = np.arange(owner.size) + np.repeat(begin[part] - np.cumsum(count) + count, count)
            rows = index[place] & _LOW
            different = np.bitwise_count(queries[order[part]][owner] ^ codes[rows]).sum(1, dtype=np.int64)
            near = np.flatnonzero(different <= max_bits)
            done, first = np.unique(owner[near], return_index=True)
            best[order[part[done]]] = rows[near[first]]
            begin[part] += count
            begin[part[done]] = end[part[done]]
        left = left[begin[left] < end[left]]
        step = min(4 * step, _PAIRS)


def _parts(places: NDArray[np.int64], step: int) -> Iterator[NDArray[np.int64]]:
    length = max(1, _PAIRS // step)
    return (places[first : first + length] for first in range(0, len(places), length))
