"""Servers that are filmed, and what sends them traffic: run until they are no longer needed."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from rehearsing.machine import RehearsalError

from filming.recorder import Recorder

_READY_S, _END_S = 60, 20


@contextlib.contextmanager
def running(recorder: Recorder, command: list[str], health: str) -> Iterator[None]:
    """Run a server until it is no longer needed; it is ready when that URL answers.

    Raises:
        RehearsalError: it isn't ready in time.
    """
    with started(recorder, command) as process:
        until = time.monotonic() + _READY_S
        while not _answers(health):
            if time.monotonic() > until or process.poll() is not None:
                raise RehearsalError(f"{command[0]} isn't ready")
            time.sleep(0.2)
        yield


@contextlib.contextmanager
def started(recorder: Recorder, command: list[str]) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a command in the repository's copy until it is no longer needed; yield its process."""
    with (recorder.folder / f"{Path(command[0]).name}.log").open("ab") as log:
        # A group of its own: servers have workers.
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=recorder.project,
            env=recorder.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
        return bool(answer.status == 200)
    return False
