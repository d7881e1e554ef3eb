"""Signed ids: only the service's own predictions get feedback, each of them once."""

import base64
import re
import threading
import time

import pytest

from app.telemetry import feedback
from app.telemetry.feedback import InvalidIdError, SignedPredictions

SECRET = "0123456789abcdef"
MODEL = "ab12cd" + 58 * "0"
WEEK_S = 7 * 24 * 3600


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
    predictions = SignedPredictions(None)
    for request_id in ("abc", "a.b.c", "x" * 64):
        signed = predictions.sign(request_id, "cat", MODEL)
        assert re.fullmatch(re.escape(request_id) + r"\.[A-Za-z0-9_-]{36}", signed)
        assert predictions.accept(signed, "cat")


def test_each_prediction_counts_once(clock: Clock) -> None:
    """Although many have the same request id, time and label."""
    predictions = SignedPredictions(None)
    signed = [predictions.sign("id", "cat", MODEL) for _ in range(1000)]
    for counts in (True, False, False):
        assert {predictions.accept(one, "cat") for one in signed} == {counts}


def test_the_label_is_signed() -> None:
    predictions = SignedPredictions(None)
    signed = predictions.sign("id", "cat", MODEL)
    with pytest.raises(InvalidIdError, match="predicted"):
        predictions.accept(signed, "dog")
    assert predictions.accept(signed, "cat")


def test_an_id_names_the_model_that_answered() -> None:
    """Another instance, with another model, may get the feedback."""
    signed = SignedPredictions(SECRET).sign("a.b", "cat", MODEL)
    assert SignedPredictions(SECRET).accept(signed, "cat")
    assert SignedPredictions.model_of(signed) == "ab12cd"


def test_forged_ids_are_invalid() -> None:
    predictions = SignedPredictions(SECRET)
    signed = predictions.sign("id", "cat", MODEL)
    content = base64.urlsafe_b64decode(signed.removeprefix("id."))
    contents = [content[:-3], content + b"abc"]
    for place in range(len(content)):
        for bit in (1, 128):
            contents.append(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
    forged = [f"id.{base64.urlsafe_b64encode(one).decode()}" for one in contents]
    forged += [signed.removeprefix("id."), signed.replace(".", ""), signed.upper(), signed[:-1]]
    forged += [f"{before}{signed}" for before in ("x", "\0", "\ud800", ".")]
    forged += [f"{signed}{after}" for after in ("A", "=", "\n", " ", "\ud800")]
    forged += ["", ".", "id", "id.", "." * 4000, f"id.{'=' * 36}", f"id.{'é' * 36}", f"id.{chr(0xD800) * 36}"]
    for one in forged:
        with pytest.raises(InvalidIdError) as caught:
            predictions.accept(one, "cat")
        assert str(caught.value).isprintable()
    assert predictions.accept(signed, "cat")


def test_another_process_accepts_it_only_with_the_same_secret() -> None:
    signed = SignedPredictions(SECRET).sign("id", "cat", MODEL)
    assert SignedPredictions(SECRET).accept(signed, "cat")
    for secret in (None, SECRET[::-1]):
        with pytest.raises(InvalidIdError, match="FEEDBACK_SECRET"):
            SignedPredictions(secret).accept(signed, "cat")
    with pytest.raises(InvalidIdError):
        SignedPredictions(None).accept(SignedPredictions(None).sign("id", "cat", MODEL), "cat")


def test_an_old_prediction_gets_no_feedback(clock: Clock) -> None:
    predictions = SignedPredictions(None)
    signed = [predictions.sign(f"id-{number}", "cat", MODEL) for number in range(2)]
    clock.now += WEEK_S - 1
    assert predictions.accept(signed[0], "cat")
    clock.now += 1
    for one in signed:
        with pytest.raises(InvalidIdError, match="too old"):
            predictions.accept(one, "cat")


def test_no_prediction_counts_twice_when_there_are_more_than_are_remembered(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "MAX_REMEMBERED", 10)
    predictions = SignedPredictions(None)
    signed = []
    for number in range(100):
        clock.now += 1
        signed.append(predictions.sign(f"id-{number}", "cat", MODEL))
    late = predictions.sign("late", "cat", MODEL)

    def counts(one: str) -> bool:
        try:
            return predictions.accept(one, "cat")
        except InvalidIdError:
            return False

    order = signed[50:] + signed[:50]  # the feedback on old predictions comes last
    assert sum(counts(one) for one in order) >= 50
    for _ in range(3):
        assert not any(counts(one) for one in signed)
        assert not any(counts(one) for one in reversed(signed))
    assert counts(late)  # the latest predictions always get theirs
    assert len(predictions._counted) == len(predictions._by_time) == 10


def test_parallel_feedback_on_one_prediction_counts_once() -> None:
    predictions = SignedPredictions(None)
    signed = [predictions.sign(f"id-{number}", "cat", MODEL) for number in range(200)]
    counted: list[bool] = []

    def send() -> None:
        counted.extend([predictions.accept(one, "cat") for one in signed])

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(counted), sum(counted)) == (1600, 200)
