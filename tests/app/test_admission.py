"""Slots, the line behind them, and who is turned away."""

import contextlib
import contextvars
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from app import cpu
from app.admission import Admission, RejectedError


def begin(admission: Admission, work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=admission.run, args=(work,))
    thread.start()
    return thread


def occupy(admission: Admission, until: threading.Event) -> threading.Thread:
    inside = threading.Event()

    def work() -> None:
        inside.set()
        until.wait(10)

    thread = begin(admission, work)
    assert inside.wait(5)
    return thread


def never() -> None:
    raise AssertionError("worked for nobody")


def test_a_full_line_turns_away_at_once_and_a_slot_is_freed_by_the_end_of_its_work():
    admission, done = Admission(1, 0, 5), threading.Event()
    worker = occupy(admission, done)
    assert admission.full
    started = time.monotonic()
    with pytest.raises(RejectedError) as error:
        admission.run(never)
    assert error.value.reason == "queue_full"
    assert time.monotonic() - started < 0.5
    done.set()
    worker.join()
    assert not admission.full
    assert admission.run(lambda: 7) == 7


def test_a_wait_ends_at_the_timeout_and_leaves_no_place_taken():
    admission, done = Admission(1, 1, 0.05), threading.Event()
    worker = occupy(admission, done)
    for _ in range(2):  # a place that was not given back would make the second queue_full
        with pytest.raises(RejectedError) as error:
            admission.run(never)
        assert error.value.reason == "timeout"
    done.set()
    worker.join()
    assert admission.run(lambda: 7) == 7


def test_work_that_has_begun_is_not_timed_out():
    assert Admission(1, 0, 0.02).run(lambda: time.sleep(0.2) or 7) == 7


def test_what_the_work_raises_is_raised_and_its_slot_freed():
    admission = Admission(1, 0, 5)
    for error in (ValueError, TimeoutError):

        def work(error: type[Exception] = error) -> None:
            raise error("its own")

        with pytest.raises(error, match="its own"):
            admission.run(work)
    assert admission.run(lambda: 7) == 7


def test_what_failed_work_held_is_freed_without_the_garbage_collector():
    class Photo:
        pass

    def work() -> None:
        photo = Photo()
        held.append(weakref.ref(photo))
        raise ValueError("broken")

    admission, held = Admission(1, 0, 5), []
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            admission.run(work)
        until = time.monotonic() + 5
        while (
            held[0]() is not None and time.monotonic() < until
        ):  # the worker's thread lets go a moment later
            time.sleep(0.001)
        assert held[0]() is None
    finally:
        gc.enable()


def test_the_line_is_served_in_order():
    admission, done, order = Admission(1, 8, 10), threading.Event(), []
    threads = [occupy(admission, done)]
    for number in range(6):
        threads.append(begin(admission, lambda number=number: order.append(number)))
        while admission._taken <= number + 1:
            time.sleep(0.001)
    done.set()
    for thread in threads:
        thread.join()
    assert order == list(range(6))


def test_never_more_at_once_than_slots():
    admission, running, most = Admission(3, 100, 10), [], []

    def work() -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.02)
        running.pop()

    for thread in [begin(admission, work) for _ in range(40)]:
        thread.join()
    assert max(most) == 3
    assert len(most) == 40


def test_who_has_hung_up_in_line_takes_no_work():
    admission = Admission(1, 0, 1)
    with pytest.raises(RejectedError) as error:
        admission.run(never, gone=lambda: True)
    assert error.value.reason == "disconnected"
    assert admission.run(lambda: 7) == 7


def test_work_sees_the_callers_context():
    variable = contextvars.ContextVar("variable")
    variable.set("the caller's")
    assert Admission(1, 0, 1).run(variable.get) == "the caller's"


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux alone")
def test_work_gives_way_to_the_callers_thread():
    code = """
import os
from app.admission import Admission
nice = lambda: os.getpriority(os.PRIO_PROCESS, 0)
print(nice(), Admission(1, 0, 1).run(nice), nice())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, inside, after = map(int, done.stdout.split())
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert (before, inside, after) == (own, min(own + 10, 19), own)


@pytest.mark.parametrize(
    ("files", "membership", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        ({"cpu.max": "max 100000\n"}, "0::/\n", None),
        ({"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 0.5),
        ({"cpu.max": "200000 100000"}, "0::/not/to/be/seen\n", 2.0),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu,cpuacct:/\n", 3.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu,cpuacct:/\n", None),
        ({"cpu.max": "rubbish"}, "0::/\n", None),
        ({}, "0::/\n", None),
    ],
)
def test_the_quota_of_a_control_group(tmp_path: Path, files, membership, expected):
    for name, text in files.items():
        (tmp_path / "cg" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cg" / name).write_text(text)
    (tmp_path / "membership").write_text(membership)
    assert cpu.quota(tmp_path / "cg", tmp_path / "membership") == expected
    assert cpu.available() >= 1
