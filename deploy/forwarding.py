"""A port of this machine that kubectl forwards to a service in a cluster."""

import atexit
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence

from deploy.cancellation import CANCELLATION
from deploy.process import end
from deploy.target import DeployError

_FORWARD_S = 60


class Forwarding:
    """At most one forwarded port, until this process ends; `where` are kubectl's options for the cluster."""

    def __init__(self, where: Sequence[str]) -> None:
        self._where = where
        self._process: subprocess.Popen[str] | None = None
        atexit.register(self._stop)

    def to(self, service: str) -> str:
        """Forward a port of this machine to a ready pod, and return its URL; raise DeployError if it fails.

        Forwarding ends with its pod, so this is done again after every rollout.
        """
        self._stop()
        text = ""
        with tempfile.TemporaryFile() as output:
            self._process = subprocess.Popen(  # noqa: S603
                ["kubectl", "port-forward", f"service/{service}", ":80", "--address=127.0.0.1", *self._where],  # noqa: S607
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            until, ended = time.monotonic() + _FORWARD_S, False
            while time.monotonic() < until and not ended:
                CANCELLATION.pause(0.05)
                ended = self._process.poll() is not None
                text = os.pread(output.fileno(), 10_000, 0).decode()
                if match := re.search(r"^Forwarding from (127\.0\.0\.1:\d+) ", text, re.MULTILINE):
                    return f"http://{match[1]}"
        raise DeployError(f"kubectl port-forward: {(text.splitlines() or ['no answer'])[-1]}")

    def _stop(self) -> None:
        if self._process:
            end(self._process)
