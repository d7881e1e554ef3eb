"""The search for near-duplicates finds what comparing each photo with each other photo finds."""

import numpy as np
import pytest

from ml.data import hamming
from ml.data.duplicates import drop_near_duplicates
from ml.data.hamming import first_near
from ml.data.photo import EVALUATED_FIRST, Photo

LIMITS = (0, 1, 7, 8, 15, 16, 17, 31, 64)


def by_brute_force(queries, codes, max_bits):
    near = [np.bitwise_count(codes ^ query).sum(1, dtype=int) <= max_bits for query in queries]
    return [int(flags.argmax()) if flags.any() else -1 for flags in near]


def random_codes(random, count):
    return random.integers(0, 2**64, (count, 4), dtype=np.uint64)


def changed(random, code, bits):
    """Flip some bits of a code."""
    flips = np.zeros(256, np.uint8)
    flips[random.permutation(256)[:bits]] = 1
    return code ^ np.packbits(flips).view(np.uint64)


@pytest.mark.parametrize("max_bits", LIMITS)
def test_planted_codes(max_bits):
    """Copies with fewer, exactly as many, and more changed bits than allowed, among random ones."""
    random = np.random.default_rng(max_bits)
    codes, queries = random_codes(random, 1500), random_codes(random, 1500)
    for row in range(0, 1500, 3):
        queries[row] = changed(random, codes[random.integers(1500)], max(0, max_bits - 2 + row // 3 % 5))
    found = first_near(queries, codes, max_bits)
    assert found.tolist() == by_brute_force(queries, codes, max_bits)
    assert 250 <= (found >= 0).sum() < 600


@pytest.mark.parametrize("max_bits", LIMITS)
def test_many_equal_and_similar_codes(max_bits):
    random = np.random.default_rng(max_bits)
    one = random_codes(random, 1)[0]
    codes, queries = (
        np.concatenate([
            np.repeat(one[None], 400, 0),
            [changed(random, one, bits) for bits in random.integers(0, 60, 400)],
            np.zeros((200, 4), np.uint64),
            random_codes(random, 200),
        ])[random.permutation(1200)]
        for _ in range(2)
    )  # fmt: skip
    assert first_near(queries, codes, max_bits).tolist() == by_brute_force(queries, codes, max_bits)


def test_small_blocks_give_the_same(monkeypatch):
    monkeypatch.setattr(hamming, "_BLOCK", 64)
    monkeypatch.setattr(hamming, "_PAIRS", 50)
    test_planted_codes(16)
    test_many_equal_and_similar_codes(16)


def test_no_codes():
    none = np.zeros((0, 4), np.uint64)
    assert first_near(none, np.ones((3, 4), np.uint64), 16).tolist() == []
    assert first_near(np.ones((2, 4), np.uint64), none, 16).tolist() == [-1, -1]


def test_few_pairs_are_compared(monkeypatch):
    """Of 20 million pairs of unrelated codes, and of 25 million of equal ones."""
    compared = []
    count = np.bitwise_count
    monkeypatch.setattr(hamming.np, "bitwise_count", lambda bits: compared.append(len(bits)) or count(bits))
    random = np.random.default_rng(0)
    queries, codes = random_codes(random, 10_000), random_codes(random, 2_000)
    queries[:5000], codes[:1000] = 0, 0
    first_near(queries, codes, 16)
    assert sum(compared) < 1000
    # Photos of one scene: each query is near to every code, and needs only the first.
    compared.clear()
    scene = random_codes(random, 1)[0]
    queries, codes = (np.stack([changed(random, scene, 3) for _ in range(1000)]) for _ in range(2))
    first_near(queries, codes, 16)
    assert sum(compared) < 100_000


def test_a_dropped_photo_drops_no_other():
    """The val photo is near to the test photo; the train photo is near to the val photo only."""
    code = random_codes(np.random.default_rng(0), 1)[0]
    codes = [code, code ^ np.array([0xFF, 0, 0, 0], np.uint64), code ^ np.array([0xFFFF, 0, 0, 0], np.uint64)]
    photos = [
        Photo(f"a/{split}", sha256=f"{number}" * 64, split=split, code=codes[number].tobytes())
        for number, split in enumerate(("test", "val", "train"))
    ]
    left = drop_near_duplicates(photos, 8)
    assert [photo.other for photo in left] == ["", "a/test", ""]
    assert left[2] == photos[2]


@pytest.mark.parametrize("max_bits", [-1, 0, 8, 16, 24])
def test_dropped_photos(max_bits):
    """The rule, applied to all pairs: the photo of the split that is evaluated first stays."""
    random = np.random.default_rng(1)
    codes = random_codes(random, 900)
    for row in range(300, 900):
        codes[row] = changed(random, codes[random.integers(row)], random.integers(0, 30))
    photos = [
        Photo(f"a/{row}", sha256=random.bytes(32).hex(), split=str(random.choice(EVALUATED_FIRST)),
              code=b"" if row % 50 == 0 else code.tobytes())
        for row, code in enumerate(codes)
    ]  # fmt: skip
    photos[7] = photos[7].drop("broken", "")
    expected = {}
    hashed = sorted((photo for photo in photos if photo.code and not photo.reason), key=lambda p: p.sha256)
    codes = np.array([np.frombuffer(photo.code, np.uint64) for photo in hashed])
    place = {photo.path: EVALUATED_FIRST.index(photo.split) for photo in hashed}
    for row in sorted(range(len(hashed)), key=lambda row: place[hashed[row].path]):
        goes, bits = hashed[row], np.bitwise_count(codes ^ codes[row]).sum(1, dtype=int)
        near = [hashed[other] for other in np.flatnonzero(bits <= max_bits)]
        stay = [p for p in near if p.path not in expected and place[p.path] < place[goes.path]]
        if stay:
            path = stay[-1].path
            expected[goes.path] = goes.drop("near_duplicate", f"nearly {path}", path)
    assert drop_near_duplicates(photos, max_bits) == [expected.get(photo.path, photo) for photo in photos]
    assert len(expected) > 100 or max_bits < 16
