"""Workers, the queue, and rejected predictions."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from app.http import admission as module
from app.http.admission import Admission, RejectedError
from tests.helpers.waiting import HANG_S, until


class Work:
    """A task that waits until it may end."""

    def __init__(self, work: Callable[[], object] = bool, *, held: bool = False) -> None:
        self._work = work
        self.begun, self.may_end, self.ended = threading.Event(), threading.Event(), threading.Event()
        if not held:
            self.may_end.set()

    def service(self) -> None:
        self.begun.set()
        try:
            self.may_end.wait(HANG_S)
            self._work()
        finally:
            self.ended.set()


def occupy(admission: Admission[Work]) -> Work:
    work = Work(held=True)
    admission.submit(work)
    assert work.begun.wait(HANG_S)
    return work


def until_free(admission: Admission[Work]) -> None:
    until(lambda: not admission._working, "a worker stays busy")


def test_a_full_queue_rejects_and_the_end_of_work_frees_its_worker():
    admission: Admission[Work] = Admission(1, 0, HANG_S)
    held = occupy(admission)
    assert admission.full
    with pytest.raises(RejectedError) as error:
        admission.submit(Work())
    assert error.value.reason == "queue_full"
    assert not held.ended.is_set()  # it did not wait for the worker
    held.may_end.set()
    until_free(admission)
    last = Work()
    admission.submit(last)
    assert last.ended.wait(HANG_S)


def test_timed_out_requests_leave_the_queue_and_free_their_places(monkeypatch):
    now = 100.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    admission: Admission[Work] = Admission(1, 2, 0.05)
    held = occupy(admission)
    assert admission.seconds_to_timeout() == float("inf")  # whoever works waits for nothing
    for _ in range(2):  # a place that was not given back would make the second queue_full
        late = [Work(), Work()]
        for work in late:
            admission.submit(work)
        assert 0 < admission.seconds_to_timeout() <= 0.05
        assert admission.remove_timed_out() == []
        now += 0.06
        assert admission.seconds_to_timeout() <= 0
        out = admission.remove_timed_out()
        assert [work for work, _ in out] == late
        assert {error.reason for _, error in out} == {"timeout"}
    held.may_end.set()
    until_free(admission)
    assert not any(work.begun.is_set() for work in late)


def test_work_that_fails_frees_its_worker(caplog):
    admission: Admission[Work] = Admission(1, 0, 5)

    def fail() -> None:
        raise ValueError("its own")

    for _ in range(3):
        work = Work(fail)
        admission.submit(work)
        assert work.ended.wait(HANG_S)
        until_free(admission)
    assert [record.exc_info[0] for record in caplog.records] == [ValueError] * 3


def test_the_queue_is_served_in_order():
    admission: Admission[Work] = Admission(1, 8, 10)
    order: list[int] = []
    held = occupy(admission)
    line = [Work(lambda number=number: order.append(number)) for number in range(6)]
    for work in line:
        admission.submit(work)
    held.may_end.set()
    assert line[-1].ended.wait(HANG_S)
    assert order == list(range(6))


def test_never_more_in_parallel_than_workers():
    admission: Admission[Work] = Admission(3, 100, 10)
    running: list[int] = []
    most: list[int] = []
    together = threading.Barrier(3, timeout=HANG_S)

    def work() -> None:
        running.append(1)
        together.wait()
        most.append(len(running))
        time.sleep(0.01)  # time for a fourth, if one were let in
        running.pop()

    tasks = [Work(work) for _ in range(42)]
    for task in tasks:
        admission.submit(task)
    assert all(task.ended.wait(HANG_S) for task in tasks)
    assert max(most) == 3
    assert len(most) == 42


def test_stop_waits_for_work_but_not_for_the_queue(monkeypatch):
    monkeypatch.setattr(module, "_STOP_S", HANG_S)
    admission: Admission[Work] = Admission(2, 2, 10)
    held, waiting = [occupy(admission), occupy(admission)], Work()
    admission.submit(waiting)

    def let_go() -> None:
        until(lambda: admission._stopped)
        for work in held:
            work.may_end.set()

    threading.Thread(target=let_go).start()
    admission.stop()
    assert all(work.ended.is_set() for work in held)
    assert not waiting.begun.is_set()


def test_a_thread_that_cannot_be_started_costs_no_worker_for_good(monkeypatch):
    admission: Admission[Work] = Admission(2, 2, 10)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RejectedError, match="can't start a worker thread"):
            admission.submit(Work())
    held = [occupy(admission), Work(held=True)]
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        admission.submit(held[1])  # waits for the one thread
    held.append(Work(held=True))
    admission.submit(held[2])  # has another one started
    assert held[1].begun.wait(HANG_S)
    for work in held:
        work.may_end.set()
    assert all(work.ended.wait(HANG_S) for work in held)
    admission.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux alone")
def test_workers_have_a_lower_priority():
    code = """
import os
from app.http.admission import Admission
class Work:
    def service(self): print(nice())
nice = lambda: os.getpriority(os.PRIO_PROCESS, 0)
print(nice())
admission = Admission(1, 0, 1)
admission.submit(Work())
while admission.full: pass
print(nice())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, inside, after = map(int, done.stdout.split())
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert (before, inside, after) == (own, min(own + 10, 19), own)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux alone")
def test_a_worker_started_by_a_worker_has_the_same_priority():
    niceness: list[int] = []

    def note() -> None:
        niceness.append(os.getpriority(os.PRIO_PROCESS, 0))

    admission: Admission[Work] = Admission(2, 0, 10)
    inner = Work(note)

    def start_another() -> None:  # as the second request of a connection does
        admission.submit(inner)
        assert inner.ended.wait(HANG_S)
        note()

    outer = Work(start_another)
    admission.submit(outer)
    assert outer.ended.wait(HANG_S)
    admission.stop()
    assert niceness == [min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)] * 2


def test_workers_work_if_priorities_cannot_be_set(monkeypatch):
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    admission: Admission[Work] = Admission(1, 0, 5)
    work = Work()
    admission.submit(work)
    assert work.ended.wait(HANG_S)
    admission.stop()


def test_the_workers_are_saturated_until_a_moment_after_one_is_free(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MOMENT_S", HANG_S)
    admission: Admission[Work] = Admission(2, 0, HANG_S)
    held = occupy(admission)
    assert not admission.saturated
    second = occupy(admission)
    assert admission.saturated
    second.may_end.set()
    until(lambda: admission._working == 1)
    assert admission.saturated
    admission._saturated_until = time.monotonic()
    assert not admission.saturated
    held.may_end.set()
    until_free(admission)
    assert not admission.saturated
