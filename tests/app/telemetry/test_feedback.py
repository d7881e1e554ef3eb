"""Signed request ids: only the service's own answers get feedback, each photo once."""

import base64
import re
import threading
import time

import pytest

from app.telemetry import feedback
from app.telemetry.feedback import MAX_AGE_S, AnsweredRequests, InvalidIdError

SECRET = "0123456789abcdef"


class Clock:
    """The time of day, which a test can move."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", lambda: clock.now)
    return clock


def test_a_signed_id_begins_with_the_id_and_fits_into_a_url() -> None:
    answered = AnsweredRequests(None)
    for request_id in ("abc", "a.b.c", "x" * 64):
        signed = answered.sign(request_id, ["cat"])
        assert re.fullmatch(re.escape(request_id) + r"\.[A-Za-z0-9_-]{24}", signed)
        assert answered.accept(signed, "cat")


def test_each_photo_counts_once() -> None:
    answered = AnsweredRequests(None)
    one, three = answered.sign("one", ["cat"]), answered.sign("three", ["cat", "dog", "cat"])
    assert [answered.accept(one, "cat") for _ in range(3)] == [True, False, False]
    assert [answered.accept(three, label) for label in ("cat", "dog", "cat", "dog", "cat")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_the_label_of_one_photo_is_signed() -> None:
    answered = AnsweredRequests(None)
    signed = answered.sign("id", ["cat"])
    with pytest.raises(InvalidIdError, match="predicted"):
        answered.accept(signed, "dog")
    assert answered.accept(signed, "cat")


def test_forged_ids_are_invalid() -> None:
    answered = AnsweredRequests(SECRET)
    signed = answered.sign("id", ["cat"])
    content = base64.urlsafe_b64decode(signed.removeprefix("id."))
    contents = [content[:-3], content + b"abc"]
    for place in range(len(content)):
        for bit in (1, 128):
            contents.append(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
    forged = [f"id.{base64.urlsafe_b64encode(one).decode()}" for one in contents]
    forged += [signed.removeprefix("id."), signed.replace(".", ""), signed.upper(), signed[:-1]]
    forged += [f"{before}{signed}" for before in ("x", "\0", "\ud800", ".")]
    forged += [f"{signed}{after}" for after in ("A", "=", "\n", " ", "\ud800")]
    forged += ["", ".", "id", "id.", "." * 4000, f"id.{'=' * 24}", f"id.{'é' * 24}", f"id.{chr(0xD800) * 24}"]
    for one in forged:
        with pytest.raises(InvalidIdError) as caught:
            answered.accept(one, "cat")
        assert str(caught.value).isprintable()
    assert answered.accept(signed, "cat")


def test_another_process_accepts_it_only_with_the_same_secret() -> None:
    signed = AnsweredRequests(SECRET).sign("id", ["cat"])
    assert AnsweredRequests(SECRET).accept(signed, "cat")
    for secret in (None, SECRET[::-1]):
        with pytest.raises(InvalidIdError, match="FEEDBACK_SECRET"):
            AnsweredRequests(secret).accept(signed, "cat")
    with pytest.raises(InvalidIdError):
        AnsweredRequests(None).accept(AnsweredRequests(None).sign("id", ["cat"]), "cat")


def test_an_old_answer_gets_no_feedback(clock: Clock) -> None:
    answered = AnsweredRequests(None)
    signed = [answered.sign(f"id-{number}", ["cat"]) for number in range(2)]
    clock.now += MAX_AGE_S - 1
    assert answered.accept(signed[0], "cat")
    clock.now += 1
    for one in signed:
        with pytest.raises(InvalidIdError, match="too old"):
            answered.accept(one, "cat")


def test_no_answer_counts_twice_when_there_are_more_than_are_remembered(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "MAX_REMEMBERED", 10)
    answered = AnsweredRequests(None)
    signed = []
    for number in range(100):
        clock.now += 1
        signed.append(answered.sign(f"id-{number}", ["cat"]))
    late = answered.sign("late", ["cat"])

    def counts(one: str) -> bool:
        try:
            return answered.accept(one, "cat")
        except InvalidIdError:
            return False

    order = signed[50:] + signed[:50]  # the feedback on old answers comes last
    assert sum(counts(one) for one in order) >= 50
    for _ in range(3):
        assert not any(counts(one) for one in signed)
        assert not any(counts(one) for one in reversed(signed))
    assert counts(late)  # the latest answers always get theirs
    assert len(answered._counts) == len(answered._by_time) == 10


def test_parallel_feedback_on_one_answer_counts_once() -> None:
    answered = AnsweredRequests(None)
    signed = [answered.sign(f"id-{number}", ["cat"]) for number in range(200)]
    counted: list[bool] = []

    def send() -> None:
        counted.extend([answered.accept(one, "cat") for one in signed])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(counted), sum(counted)) == (1600, 200)
