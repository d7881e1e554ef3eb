"""What is counted in a day, and the photos that wait for feedback."""

import dataclasses
import time

import pytest

from app.collecting import awaiting
from app.collecting.awaiting import Awaiting, Candidate
from app.collecting.limits import DailyLimits
from ml.model.kept_photos import Record

DAY_S = 86_400

TEN_MINUTES_S = 600
"""How long a photo waits for feedback, as docs/privacy.md promises."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day and of `monotonic`, which a test can move."""
    now = [1_800_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_day_ends_at_midnight(clock: list[float]) -> None:
    limits = DailyLimits(photos=2, size=100, per_client=1, random_share=False)
    clock[0] = 20_000 * DAY_S + DAY_S - 1
    limits.count("a", drawn=False, size=10)
    assert limits.refusal("a", drawn=False) == "photos_per_client"
    assert limits.refusal("b", drawn=False) is None
    assert limits.refusal("b", drawn=False, size=91) == "mb_per_day"
    limits.count("b", drawn=False, size=90)
    assert limits.refusal("c", drawn=True) == "photos_per_day"
    clock[0] += 1
    assert limits.refusal("a", drawn=False, size=100) is None


def test_the_clients_of_a_day_are_forgotten_when_it_ends(clock: list[float]) -> None:
    limits = DailyLimits(photos=2, size=100, per_client=1, random_share=False)
    limits.count("a", drawn=False, size=10)
    limits.tidy()
    assert limits._clients
    clock[0] += DAY_S
    limits.tidy()
    assert not limits._clients


def test_half_of_a_day_is_for_the_random_share(clock: list[float]) -> None:
    limits = DailyLimits(photos=10, size=1000, per_client=100, random_share=True)
    for _ in range(5):
        assert limits.refusal("a", drawn=False) is None
        limits.count("a", drawn=False, size=1)
    assert limits.refusal("a", drawn=False) == "photos_per_day"
    for _ in range(5):
        assert limits.refusal("a", drawn=True) is None
        limits.count("a", drawn=True, size=1)
    assert limits.refusal("a", drawn=True) == "photos_per_day"
    limits = DailyLimits(photos=10, size=1000, per_client=100, random_share=True)
    assert limits.refusal("a", drawn=False, size=501) == "mb_per_day"
    assert limits.refusal("a", drawn=True, size=501) is None


def test_hard_photos_of_a_client_take_no_room_from_its_random_ones(clock: list[float]) -> None:
    limits = DailyLimits(photos=100, size=1000, per_client=3, random_share=True)
    for _ in range(3):
        limits.count("a", drawn=False, size=1)
    assert limits.refusal("a", drawn=False) == "photos_per_client"
    for _ in range(3):
        assert limits.refusal("a", drawn=True) is None
        limits.count("a", drawn=True, size=1)
    assert limits.refusal("a", drawn=True) == "photos_per_client"
    assert limits.refusal("b", drawn=False) is None


def test_photos_are_forgotten_in_time_without_feedback(clock: list[float]) -> None:
    waiting = Awaiting(max_bytes=100)
    waiting.add(candidate("old"))
    clock[0] += TEN_MINUTES_S + 1
    waiting.add(candidate("new"))
    assert list(waiting._candidates) == ["new"]


def candidate(name: str, size: int = 10) -> Candidate:
    record = Record("0" * 32, name, "2026-11-27T14:03:22Z", (), 0.0, {}, {})
    return Candidate(bytes(size), record, "a")


def test_photos_wait_for_feedback_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Awaiting(max_bytes=100)
    for number in range(30):
        waiting.add(candidate(str(number)))
        assert waiting._bytes <= 100
    waiting.add(candidate("too large", 101))
    answer = {"probabilities": {"a": 0.5, "b": 0.5}}  # takes memory too
    waiting.add(Candidate(None, dataclasses.replace(candidate("classes").record, answer=answer), "a"))
    assert waiting.pop("classes") is None
    assert [waiting.pop(str(number)) is not None for number in range(30)] == [False] * 20 + [True] * 10
    assert waiting.pop("too large") is None
    assert waiting._bytes == 0
    monkeypatch.setattr(awaiting, "_MAX_PHOTOS", 3)
    for number in range(5):
        waiting.add(candidate(str(number), 0))
    assert [waiting.pop(str(number)) is not None for number in range(5)] == [False, False, True, True, True]


def test_photos_wait_for_feedback_for_a_bounded_time(clock: list[float]) -> None:
    waiting = Awaiting(max_bytes=100)
    waiting.add(candidate("early"))
    clock[0] += TEN_MINUTES_S - 1
    waiting.add(candidate("late"))
    clock[0] += 2
    assert waiting.pop("early") is None
    waiting.tidy()
    assert waiting._bytes == 10
    assert waiting.pop("late")
    assert waiting.pop("late") is None
