"""Slots, the line behind them, and who is turned away."""

import threading
import time
from pathlib import Path

import pytest

from app import cpu
from app.admission import Admission, RejectedError


def occupy(admission: Admission, until: threading.Event) -> threading.Thread:
    inside = threading.Event()

    def work() -> None:
        with admission.slot():
            inside.set()
            until.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(5)
    return thread


def test_a_full_line_turns_away_at_once_and_a_slot_is_freed_by_the_end_of_its_work():
    admission, done = Admission(1, 0, 5), threading.Event()
    worker = occupy(admission, done)
    started = time.monotonic()
    with pytest.raises(RejectedError) as error, admission.slot():
        pass
    assert error.value.reason == "queue_full"
    assert time.monotonic() - started < 0.5
    done.set()
    worker.join()
    with admission.slot():
        pass


def test_a_wait_ends_at_the_timeout_and_leaves_no_place_taken():
    admission, done = Admission(1, 1, 0.05), threading.Event()
    worker = occupy(admission, done)
    for _ in range(2):  # a place that was not given back would make the second queue_full
        with pytest.raises(RejectedError) as error, admission.slot():
            pass
        assert error.value.reason == "timeout"
    done.set()
    worker.join()
    with admission.slot():
        pass


def test_the_line_is_served_in_order():
    admission, done, order = Admission(1, 8, 10), threading.Event(), []
    worker = occupy(admission, done)

    def wait(number: int) -> None:
        with admission.slot():
            order.append(number)

    threads = []
    for number in range(6):
        threads.append(threading.Thread(target=wait, args=(number,)))
        threads[-1].start()
        while len(admission._line) <= number:
            time.sleep(0.001)
    done.set()
    for thread in [worker, *threads]:
        thread.join()
    assert order == list(range(6))


def test_never_more_at_once_than_slots():
    admission, running, most = Admission(3, 100, 10), [], []

    def work() -> None:
        with admission.slot():
            running.append(1)
            most.append(len(running))
            time.sleep(0.002)
            running.pop()

    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 3
    assert len(most) == 40


def test_who_has_hung_up_in_line_takes_no_work():
    admission = Admission(1, 0, 1)
    with pytest.raises(RejectedError) as error, admission.slot(gone=lambda: True):
        raise AssertionError("worked for nobody")
    assert error.value.reason == "disconnected"
    with admission.slot():
        pass


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
