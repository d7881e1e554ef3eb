"""What a process holds: memory, files and threads; now, and as time goes by."""

import asyncio
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from common.process import ProcessError

_SAMPLES = 60
_SETTLE_S = 5
"""Given to connections that were hung up, before the last look at what is held."""


@dataclass(frozen=True)
class Holding:
    """What a process holds.

    Attributes:
        memory: its share of memory in MB (PSS; RSS where the kernel doesn't say).
        files: open file descriptors.
        threads: running or not.
    """

    memory: float
    files: int
    threads: int


def of(pid: int) -> Holding:
    """Return what the process holds now.

    Raises:
        ProcessError: there is no such process, or not one that this user may look at.
    """
    proc = Path("/proc", str(pid))
    try:
        status = _kilobytes(proc / "status")
        try:
            memory = _kilobytes(proc / "smaps_rollup")["Pss"]
        except OSError:
            memory = status["VmRSS"]
        return Holding(memory / 1024, len(list((proc / "fd").iterdir())), status["Threads"])
    except (OSError, KeyError):  # a process that has ended but isn't waited for has no memory
        raise ProcessError(f"process {pid} has gone") from None


def _kilobytes(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in path.read_text().splitlines())
    return {pair[0].rstrip(":"): int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}


async def watch(pid: int, seconds: float, held: list[Holding]) -> None:
    """Add what the process holds, again and again, and print it."""
    print(f"{'seconds':>8} {'memory MB':>10} {'files':>6} {'threads':>8}")
    started = time.monotonic()
    while True:
        now = of(pid)
        held.append(now)
        print(
            f"{time.monotonic() - started:8.0f} {now.memory:10.1f} {now.files:6} {now.threads:8}", flush=True
        )
        await asyncio.sleep(seconds / _SAMPLES)


async def settled(pid: int, before: Holding) -> Holding:
    """Wait until the process has let go of the clients' connections; return what it then holds."""
    until = time.monotonic() + _SETTLE_S
    while of(pid).files > before.files and time.monotonic() < until:
        await asyncio.sleep(0.2)
    return of(pid)


def grown(held: list[Holding], before: Holding, after: Holding, bound: float) -> list[str]:
    """Return what grew: the last quarter of the time against the first one after the warm-up.

    Args:
        held: what the process held as time went by.
        before: ... before any load.
        after: ... when all clients had gone.
        bound: percent of memory that are borne.
    """
    warm = held[len(held) // 5 :]
    quarter = max(1, len(warm) // 4)
    first, last = (
        statistics.median(one.memory for one in part) for part in (warm[:quarter], warm[-quarter:])
    )
    percent = 100 * (last / first - 1)
    print(f"memory: {first:.1f} MB after the warm-up, {last:.1f} MB in the end ({percent:+.1f} %)")
    print(f"file descriptors: {before.files} before, {after.files} when all clients had gone")
    reasons = []
    if percent > bound:
        reasons.append(f"the memory grew by {percent:.1f} %")
    if after.files > before.files:
        reasons.append(f"{after.files - before.files} file descriptors are left open")
    if after.threads > max(one.threads for one in warm[:quarter]):
        reasons.append("the threads grew")
    return reasons
