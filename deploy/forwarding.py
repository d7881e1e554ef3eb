"""A port of this machine that kubectl forwards to a service in a cluster."""

import atexit
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import IO

from deploy.cancellation import CANCELLATION
from deploy.process import end
from deploy.target import DeployError

_FORWARD_S = 60
_AGAIN_S = 0.5


class Forwarding:
    """At most one forwarded port, until this process ends; `where` are kubectl's options for the cluster."""

    def __init__(self, where: Sequence[str]) -> None:
        self._where = where
        self._process: subprocess.Popen[str] | None = None
        self._stopped, self._lock = threading.Event(), threading.Lock()
        atexit.register(self._stop)

    def to(self, service: str) -> str:
        """Forward a port of this machine to a ready pod, and return its URL; raise DeployError if it fails.

        kubectl ends with the pod that it has chosen. Then another one takes its place, at the same port.
        After a rollout, this must be called again, or old pods may answer.
        """
        self._stop()
        text = ""
        with tempfile.TemporaryFile() as output:
            process = self._process = self._start(service, "", output)
            until, ended = time.monotonic() + _FORWARD_S, False
            while time.monotonic() < until and not ended:
                CANCELLATION.pause(0.05)
                ended = process.poll() is not None
                text = os.pread(output.fileno(), 10_000, 0).decode()
                if match := re.search(r"^Forwarding from 127\.0\.0\.1:(\d+) ", text, re.MULTILINE):
                    self._stopped = threading.Event()
                    threading.Thread(
                        target=self._keep, args=(service, match[1], process, self._stopped), daemon=True
                    ).start()
                    return f"http://127.0.0.1:{match[1]}"
        raise DeployError(f"kubectl port-forward: {(text.splitlines() or ['no answer'])[-1]}")

    def _start(self, service: str, port: str, output: IO[bytes] | int) -> "subprocess.Popen[str]":
        ports = (f"service/{service}", f"{port}:80", "--address=127.0.0.1")
        return subprocess.Popen(  # noqa: S603
            ["kubectl", "port-forward", *ports, *self._where],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _keep(
        self, service: str, port: str, process: "subprocess.Popen[str]", stopped: threading.Event
    ) -> None:
        """Forward the port again whenever kubectl ends, until this is stopped."""
        while True:
            process.wait()
            if stopped.wait(_AGAIN_S):
                return
            with self._lock:
                if stopped.is_set():
                    return
                process = self._process = self._start(service, port, subprocess.DEVNULL)

    def _stop(self) -> None:
        with self._lock:
            self._stopped.set()
        if self._process:
            end(self._process)
