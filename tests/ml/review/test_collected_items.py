"""Collected photos on the page: their order, groups, evidence and decisions; and stores of strangers."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.data import reviewed
from ml.data.duplicates import difference_hash
from ml.model.errors import ImageError
from ml.review.collected_items import CollectedItems
from ml.review.figures import accuracy, as_numbers, in_words
from ml.review.groups import MAX_GROUP, group
from ml.review.items import Choice
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.paths import ROOT
from tests.ml.data.test_reviewed import ENTRY, NONE
from tests.ml.review.conftest import kept, served

Review = Callable[..., CollectedItems]


def ids(items: CollectedItems) -> list[int]:
    return [int(item.id, 16) for item in items.items]


def test_contradicted_ones_come_first_then_the_uncertain_and_the_unlike(store: Path, review: Review) -> None:
    kept(store, 1, red=0.9)
    kept(store, 2, red=0.55)
    kept(store, 3, red=0.99, known=0.3, label="unknown", reasons=("unknown",))
    kept(store, 4, red=0.99, reasons=("contradicted",), actual="blue")
    kept(store, 5, red=0.6, known=None)
    kept(store, 6, red=0.8, known=0.0)
    items = review()
    assert ids(items) == [4, 6, 2, 5, 3, 1]
    assert items.items[0].reason.endswith("Feedback says “blue”.")
    assert items.items[4].reason == "The service answered “unknown”; the likeliest class is “red”, 99%."
    assert list(items.items[2].probabilities) == ["red", "blue"]


def test_the_random_sample_is_in_an_order_without_answers_and_is_not_told_them(
    store: Path, review: Review
) -> None:
    for number in range(20, 28):
        kept(store, number)
    sample = [4, 9, 11, 15]
    for number in sample:
        reasons = ("random", "contradicted", "unsure") if number % 2 else ("random",)
        kept(store, number, red=number / 20, reasons=reasons, actual="blue")
    items = review(256)  # all of the others are near-duplicates of each other
    random = [item for item in items.items if item.kind == "random"]
    assert [int(item.id, 16) for item in random] == sample
    assert [item.kind for item in items.items] == ["unsure", "unsure", *["random"] * 4]
    for item in random:
        assert (dict(item.probabilities), item.evidence, len(item.photos)) == ({}, False, 1)
        assert "blue" not in item.reason
        assert items.evidence(item.id) is None
    separate = [item.kind for item in review().items]
    assert separate[:8] == ["unsure", "unsure", "unsure", "random"] * 2


def test_near_duplicates_are_one_item_and_get_one_decision(store: Path, review: Review) -> None:
    with Image.open(ROOT / "tests/photos/cat.jpg") as photo:
        photo.thumbnail((400, 400))
        copies = [encode(np.asarray(photo.convert("RGB")), quality=quality) for quality in (95, 60, 40)]
    for number, content in enumerate(copies):
        kept(store, number, content)
    with Image.open(ROOT / "tests/photos/dog.jpg") as photo:
        photo.thumbnail((400, 400))
        kept(store, 9, encode(np.asarray(photo.convert("RGB"))))
    flat = encode(np.full((40, 60, 3), 90, np.uint8))
    for number in (10, 11):
        kept(store, number, flat)
    items = review(16)
    sizes = {int(item.id, 16): len(item.photos) for item in items.items}
    assert sorted(sizes.values()) == [1, 2, 3]
    assert sizes[9] == 1
    cats = next(item for item in items.items if len(item.photos) == 3)
    assert cats.question == "What do these 3 photos show?"
    assert "one decision counts for all of them" in cats.reason
    items.decide(cats, Choice("label", "red"))
    assert {name: entry.label for name, entry in reviewed.load().items()} == {
        f"{number:032x}": "red" for number in range(3)
    }
    items.decide(cats, None)
    assert reviewed.load() == {}


def test_groups_are_small_enough_to_be_seen() -> None:
    random = np.random.default_rng(0)
    first = random.integers(0, 256, 32, np.uint8)
    near = [first.copy() for _ in range(9)]
    for number, code in enumerate(near):
        code[number] ^= 1
    codes = [code.tobytes() for code in [*near[:5], random.integers(0, 256, 32, np.uint8), *near[5:]]]
    assert group(codes, 2) == [[0, 1, 2, 3, 4, 6], [5], [7, 8, 9]]
    assert max(map(len, group(codes, 256))) == MAX_GROUP
    assert group(codes, -1) == [[row] for row in range(10)]
    assert group([], 2) == []


def test_a_decision_says_what_the_figures_need_and_nothing_of_the_sender(store: Path, review: Review) -> None:
    kept(store, 1, reasons=("random", "unsure"), request_id="secret-request")
    kept(store, 3, label="=cmd()", model={"version": "=1+1\n", "sha256": "a" * 64})
    items = review()
    for item, choice in zip(items.items, (Choice("label", "blue"), Choice("none")), strict=True):
        items.decide(item, choice)
        assert items.choices()[item.id] == choice
    entries = reviewed.load()
    one, other = entries[f"{1:032x}"], entries[f"{3:032x}"]
    assert {one.decision, other.decision} == {"label", "none"}
    assert (one.day, one.reasons, one.answer, one.version) == ("2026-11-27", "random unsure", "blue", "v1")
    assert (other.answer, other.version) == ("another", "another")
    assert "secret-request" not in reviewed.PATH.read_text()
    assert review().items == []  # what is decided is not shown again


def test_the_evidence_is_of_the_model_that_was_named(store: Path, review: Review) -> None:
    pixels = np.full((80, 80, 3), (70, 70, 110), np.uint8)
    pixels[60:, 60:] = (255, 0, 0)
    kept(store, 2, encode(pixels))
    items = review()
    with served(items) as ask:
        evidence = ask("GET", f"photos/{2:032x}/evidence")[2]["evidence"]
    assert evidence["label"] in ("red", "blue")
    assert evidence["box"] == [0, 0, 1, 1]
    assert evidence["overlay"].startswith("data:image/png;base64,")


def test_the_page_gets_a_jpeg_without_metadata(store: Path, review: Review) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    content = encode(coloured(RED), exif=exif, comment="a secret")
    kept(store, 2, content)
    with served(review()) as ask:
        status, headers, body = ask("GET", f"photos/{2:032x}")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert b"secret" in content
    assert b"secret" not in body
    with Image.open(io.BytesIO(body)) as shown, Image.open(io.BytesIO(content)) as original:
        assert np.array_equal(np.asarray(shown), np.asarray(original))


def test_a_store_of_a_stranger(store: Path, review: Review, tmp_path: Path) -> None:
    """Whatever lies in the store, only good photos are shown, and nothing outside the store is read."""
    kept(store, 0)
    day = store / "2026-11-27"
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(encode(coloured(BLUE)))
    wide = encode(coloured(RED, 1025, 20))
    turned = Image.Exif()
    turned[0x0112] = 6
    contents = [b"", b"no photo", encode(coloured(RED), "PNG"), encode(coloured(RED))[:300], wide,
                encode(coloured(RED), exif=turned), bytes(5 << 20)]  # fmt: skip
    for number, content in enumerate(contents, 1):
        kept(store, number, content)
    kept(store, 20, sha256="b" * 64)  # another photo than the record's
    kept(store, 21)
    (day / f"{21:032x}.jpg").unlink()
    kept(store, 22)
    (day / f"{22:032x}.jpg").unlink()
    (day / f"{22:032x}.jpg").symlink_to(secret)
    kept(store, 23)
    (day / f"{23:032x}.jpg").unlink()
    os.mkfifo(day / f"{23:032x}.jpg")
    good = json.loads((day / f"{0:032x}.json").read_text())
    broken = [
        *(good | {"id": "../../secret"}, good | {"time": "../../../etc"}, good | {"reasons": []}),
        good | {"answer": {"label": "red", "probabilities": {"red": float("nan")}, "known": 0}},
        *([], None),
    ]
    for number, record in enumerate(broken, 40):
        (day / f"{number:032x}.json").write_text(json.dumps(record))
        (day / f"{number:032x}.jpg").write_bytes(secret.read_bytes())
    (day / f"{50:032x}.json").write_text("[" * 200_000)
    with (day / f"{51:032x}.json").open("wb") as huge:
        huge.truncate(1 << 40)
    os.mkfifo(day / f"{52:032x}.json")
    (day / "..json").write_text("x")
    (store / "2026-11-28").symlink_to(tmp_path)
    items = review()
    assert ids(items) == [0]
    assert items.unusable == len(contents) + 4
    with served(items) as ask:
        for name in ("../secret", "..%2Fsecret.jpg", f"{22:032x}", "secret"):
            assert ask("GET", f"photos/{name}")[0] == 404
            assert ask("GET", f"photos/{name}/evidence")[0] == 404
        (day / f"{0:032x}.jpg").write_bytes(secret.read_bytes())  # exchanged after the listing
        assert ask("GET", f"photos/{0:032x}")[0] == 404
    with pytest.raises(ImageError):
        items.photo(items.items[0].id)


def test_accuracy_is_that_of_the_random_sample() -> None:
    def entry(answer: str, decision: str, label: str = "", reasons: str = "random", version: str = "v1"):
        return reviewed.Entry(*_TIME_ID_SHA, decision, label, "2026-11-27", reasons, answer, version)

    entries = [
        *[entry("dog", "label", "dog")] * 6,
        entry("dog", "label", "cat"),
        entry("dog", "none"),
        entry("unknown", "label", "dog"),
        entry("unknown", "none", version="v2"),
        *[entry("dog", "discard")] * 50,
        *[entry("dog", "label", "cat", "unsure")] * 50,
    ]
    measured = accuracy(entries, 0.95)
    assert measured
    share, photos = measured
    assert (share.value, photos) == (0.7, 10)
    assert (share.low, share.high) == pytest.approx((0.3968, 0.8922), abs=1e-4)  # Wilson (1927)
    assert in_words(entries, 0.95) == (
        "Accuracy on the random sample: 70.0% (95% interval 39.7% to 89.2%), 10 photos."
    )
    numbers = as_numbers(entries, 0.95)
    assert numbers["accuracy"]["photos"] == 10
    assert numbers["versions"]["v2"]["value"] == 1
    assert numbers["versions"]["v1"]["photos"] == 9
    renamed = [entry("another", "label", "kitten")] * 3  # the answer was "cat", which is no class any more
    assert accuracy([*entries, *renamed], 0.95) == measured
    assert in_words([*entries, *renamed], 0.95).endswith(
        "10 photos. Left out: 3 answers that are none of the present classes."
    )
    assert as_numbers([*entries, *renamed], 0.95)["left_out"] == 3
    assert as_numbers(entries, 0.95)["left_out"] == 0
    assert accuracy([NONE], 0.95) is None
    assert "nothing of the random sample" in in_words([], 0.95)


_TIME_ID_SHA = (ENTRY.time, ENTRY.id, ENTRY.sha256)


def test_the_hash_of_a_flat_photo_is_not_empty(store: Path, review: Review) -> None:
    flat = np.full((40, 60, 3), 90, np.uint8)
    assert difference_hash(flat) == b""
    kept(store, 0, encode(flat))
    assert ids(review(16)) == [0]
