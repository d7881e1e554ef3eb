"""Programs that run while the camera films something else."""

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator

from scripts.filming.camera import Camera
from scripts.rehearsing.machine import RehearsalError
from scripts.rehearsing.rehearsal import Rehearsal

_WAIT = ("curl", "-sf", "-o", os.devnull, "--retry", "300", "--retry-delay", "1", "--retry-all-errors")


@contextlib.contextmanager
def background(rehearsal: Rehearsal, camera: Camera, *command: str, ready: str = "") -> Iterator[None]:
    """Run a program during the block; wait first, without filming, until it answers at the URL `ready`.

    Raises:
        subprocess.CalledProcessError: it does not answer within five minutes.
        RehearsalError: it has ended by itself.
    """
    with (rehearsal.folder / "background.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603
            command, cwd=rehearsal.project, env=rehearsal.env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        if ready:
            with camera.paused():
                subprocess.run([*_WAIT, ready], check=True)  # noqa: S603
        yield
        if process.poll() is not None:
            raise RehearsalError(f"ended with {process.returncode}: {shlex.join(command)}")
    finally:
        # The whole group, because servers have worker processes.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(20)
