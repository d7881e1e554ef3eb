"""A HAProxy on this machine."""

import signal
import subprocess
import time

from tests.helpers.waiting import until

_AGAIN_S = 2


def reload_haproxy(master: "subprocess.Popen[bytes]") -> None:
    """Let HAProxy read its configuration again, for which it starts another process.

    It may answer requests before it heeds signals, so the signal is sent until it has an effect.
    """
    before, sent = _children(master.pid), float("-inf")

    def reloaded() -> bool:
        nonlocal sent
        if time.monotonic() - sent > _AGAIN_S:
            master.send_signal(signal.SIGUSR2)
            sent = time.monotonic()
        return bool(_children(master.pid) - before)

    until(reloaded, "HAProxy reads no configuration")


def _children(pid: int) -> set[str]:
    done = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    return {child for child, parent in map(str.split, done.stdout.splitlines()) if int(parent) == pid}
