"""Runs other programs: with a time limit, cancellable, and without leaving a process behind."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.cancellation import CANCELLATION
from deploy.output import quote
from deploy.target import DeployError

LIMIT_S = 600  # an image may have to be pulled
_LOOK_S = 0.1
_END_S = 2  # for a program's own cleanup


def run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    seconds: float = LIMIT_S,
    check: bool = True,
    cancellable: bool = False,
    show: bool = False,
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end.

    Args:
        command: the program and its arguments.
        env: its whole environment; None: that of this process.
        seconds: time limit.
        check: raise if the program fails.
        cancellable: end the program when a signal comes; otherwise the signal is noticed later.
        show: print its output line by line, as it comes, instead of returning it.

    Raises:
        DeployError: the program took too long, or `check` is set and it failed.
        Cancelled: `cancellable` is set and a signal came.
    """
    name, until = Path(command[0]).name, time.monotonic() + seconds
    process = subprocess.Popen(  # noqa: S603
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if show else subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches this process only, which then undoes everything in order
    )
    printer = threading.Thread(target=_print, args=(process,), daemon=True)
    try:
        if show:
            printer.start()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                output, error = ("", "") if show else process.communicate(timeout=_LOOK_S)
                process.wait(_LOOK_S)
                break
            if cancellable:
                CANCELLATION.check()
            if time.monotonic() > until:
                raise DeployError(f"{name} {command[1]}: not done after {seconds:.0f} s")
    finally:
        end(process)
        if show:
            with contextlib.suppress(ProcessLookupError):  # a background process would hold the output
                os.killpg(process.pid, signal.SIGKILL)
            printer.join(_END_S)
    done = subprocess.CompletedProcess(process.args, process.returncode, output, error)
    if check and done.returncode != 0:
        raise failure(done)
    return done


def end(process: "subprocess.Popen[str]") -> None:
    """End a process and those that it started in its group, if it still runs."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)


def failure(done: "subprocess.CompletedProcess[str]") -> DeployError:
    """Return the error of a program that failed; its message is the last line that the program wrote."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("time=")]  # podman's own log
    reason = lines[-1] if lines else f"exit code {done.returncode}"
    return DeployError(f"{Path(done.args[0]).name} {done.args[1]}: {reason}")


def _print(process: "subprocess.Popen[str]") -> None:
    if process.stdout:
        with process.stdout as lines:
            for line in lines:
                quote(line)
