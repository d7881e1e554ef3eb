"""Memory, open files and threads of a process, and whether they grow (Linux)."""

import contextlib
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scripts.common.process import ProcessError

_SAMPLES = 60
_PAUSES_S = (0.5, 0.5, 1, 1, 2, 4)
"""Pauses after the final requests. Files that are still open after the last pause count as leaks."""


@dataclass(frozen=True)
class Usage:
    """Resources that a process uses."""

    memory_mb: float  # its share of memory (PSS; RSS if the kernel does not report PSS)
    files: int  # open file descriptors
    threads: int  # running or not


def usage(pid: int) -> Usage:
    """Return what the process uses now.

    Raises:
        ProcessError: there is no such process, or this user may not inspect it.
    """
    proc = Path("/proc", str(pid))
    try:
        status = _kilobytes(proc / "status")
        try:
            memory = _kilobytes(proc / "smaps_rollup")["Pss"]
        except OSError:
            memory = status["VmRSS"]
        return Usage(memory / 1024, len(list((proc / "fd").iterdir())), status["Threads"])
    except (OSError, KeyError):  # a process that ended and was not waited for has no memory
        raise ProcessError(f"process {pid} has gone") from None


class Family:
    """A process and its descendants, those that have ended included."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_s: dict[int, float] = {}

    def memory_mb(self) -> float:
        """Return the memory of all that run now, in MB (PSS)."""
        total = 0
        for pid in self._living():
            with contextlib.suppress(OSError, KeyError):  # it has just ended
                total += _kilobytes(Path(f"/proc/{pid}/smaps_rollup"))["Pss"]
        return total * 1024 / 1e6

    def cpu_s(self) -> float:
        """Return the CPU time of all so far, as far as earlier calls have seen those that have ended."""
        for pid in self._living():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                self._cpu_s[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return sum(self._cpu_s.values())

    def _living(self) -> list[int]:
        pids = [self._pid]
        for pid in pids:  # which grows
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    pids += map(int, children.read_text().split())
        return pids


def _kilobytes(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text().splitlines())
    return {pair[0].rstrip(":"): int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}


def watch(pid: int, seconds: float, samples: list[Usage]) -> None:
    """Print what the process uses, and append it to `samples`, for a time; raises as `usage`."""
    print(f"{'seconds':>8} {'memory MB':>10} {'files':>6} {'threads':>8}")
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        now = usage(pid)
        samples.append(now)
        print(f"{passed:8.0f} {now.memory_mb:10.1f} {now.files:6} {now.threads:8}", flush=True)
        time.sleep(seconds / _SAMPLES)


def when_settled(pid: int, before: Usage, send_requests: Callable[[], object]) -> Usage:
    """Return what the process uses once it has closed its last clients' connections and files.

    Args:
        pid: the process.
        before: usage before any load.
        send_requests: sends it a few more requests, and closes the connections.
    """
    for pause_s in _PAUSES_S:
        send_requests()
        time.sleep(pause_s)
        if (after := usage(pid)).files <= before.files:
            break
    return after


def _quarters(samples: int) -> tuple[slice, slice]:
    """Return the places of the first and the last quarter after the warm-up, which is the first fifth."""
    warm = samples // 5
    quarter = max(1, (samples - warm) // 4)
    return slice(warm, warm + quarter), slice(-quarter, None)


def warm_and_last(memory_mb: list[float]) -> tuple[float, float]:
    """Return the medians of the first and the last quarter after the warm-up, which is the first fifth."""
    first, last = _quarters(len(memory_mb))
    return statistics.median(memory_mb[first]), statistics.median(memory_mb[last])


def growth(samples: list[Usage], before: Usage, after: Usage, allowed_percent: float) -> list[str]:
    """Print how the resources changed; return one line per resource that grew.

    Args:
        samples: usage at equal intervals.
        before: usage before any load.
        after: usage after all clients had gone.
        allowed_percent: growth of memory that is not reported.
    """
    first, last = warm_and_last([sample.memory_mb for sample in samples])
    percent = 100 * (last / first - 1)
    print(f"memory: {first:.1f} MB after the warm-up, {last:.1f} MB at the end ({percent:+.1f} %)")
    print(f"file descriptors: {before.files} before the load, {after.files} after all clients had gone")
    reasons = []
    if percent > allowed_percent:
        reasons.append(f"the memory grew by {percent:.1f} %")
    if after.files > before.files:
        reasons.append(f"{after.files - before.files} file descriptors are left open")
    if after.threads > max(sample.threads for sample in samples[_quarters(len(samples))[0]]):
        reasons.append("the number of threads grew")
    return reasons
