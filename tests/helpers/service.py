"""Runs `python -m app` as a real process, for tests."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.common.process import free_port
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S

COMMAND = (sys.executable, "-m", "app")
_PIPE_BYTES = 1 << 20
"""The most that Linux allows: the lines of 4,000 requests."""
MEASURED = "COVERAGE_PROCESS_CONFIG" in os.environ
"""Whether the coverage of subprocesses is measured."""


class Client:
    """Talks to a service on a port of this machine."""

    started: float
    """When it was started, by `time.perf_counter`."""
    host = "127.0.0.1"
    """How it is addressed."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> tuple[int, dict]:
        return self._open(urllib.request.Request(f"http://{self.host}:{self.port}{path}"))

    def predict(self, photo: bytes) -> tuple[int, dict]:
        url = f"http://{self.host}:{self.port}/predict"
        return self._open(urllib.request.Request(url, photo, {"Content-Type": "image/jpeg"}))

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.host}:{self.port}/metrics", timeout=HANG_S) as response:
            text: str = response.read().decode()
        return text

    def _open(self, request: urllib.request.Request) -> tuple[int, dict]:
        try:
            with urllib.request.urlopen(request, timeout=HANG_S) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def wait(self, path: str = "/ready", seconds: float = HANG_S) -> float:
        """Wait until the path answers 200; return the seconds since the service was started."""
        while time.perf_counter() - self.started < seconds:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.get(path)[0] == 200:
                    return time.perf_counter() - self.started
            if (last_words := self.ended()) is not None:
                raise AssertionError(last_words)
            time.sleep(0.01 if time.perf_counter() - self.started < 2 else 0.2)
        raise AssertionError(f"{path} does not answer 200 after {seconds} s; {self.stuck()}")

    def ended(self) -> str | None:
        """What it said, once it has ended."""
        raise NotImplementedError

    def stuck(self) -> str:
        """Return what each of its threads is doing, if that can be found out; the service may end by it."""
        return ""


class Service(Client):
    def __init__(self, cwd: Path, command: Sequence[str] = COMMAND, **env: str) -> None:
        super().__init__(
            int(env.setdefault("PORT", str(free_port()))) if env.get("PORT", "0").isdigit() else 0
        )
        # Nothing of the tester's own settings; PYTHONPATH lets it run from any folder.
        names = ("PATH", "HOME", "COVERAGE_PROCESS_CONFIG")
        inherited = {name: os.environ[name] for name in names if name in os.environ}
        defaults = {"HOST": "127.0.0.1", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        defaults["PYTHONFAULTHANDLER"] = "1"
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=inherited | defaults | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Nobody reads the log before the end, and a service whose pipe is full blocks.
            pipesize=_PIPE_BYTES,
        )

    def ended(self) -> str | None:
        return None if self.process.poll() is None else self.process.communicate()[1]

    def stuck(self) -> str:
        self.process.send_signal(signal.SIGABRT)  # faulthandler writes where each thread is
        return self.process.communicate()[1]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Signal it; return exit code, standard output, standard error."""
        self.process.send_signal(number)
        output, error = self.process.communicate(timeout=HANG_S)
        return self.process.returncode, output, error


@contextlib.contextmanager
def running(cwd: Path = ROOT, command: Sequence[str] = COMMAND, **env: str) -> Iterator[Service]:
    service = Service(cwd, command, **env)
    try:
        yield service
    finally:
        if MEASURED:  # a killed process writes no coverage
            service.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                service.process.wait(10)
        service.process.kill()
        service.process.communicate()


def fails(code: int, **env: str) -> str:
    """The one line with which a start fails."""
    with running(**env) as service:
        _, error = service.process.communicate(timeout=HANG_S)
        assert service.process.returncode == code, error
        assert error.count("\n") == 1, error
        assert error.startswith("error: ")
        return error


_BLOCKED = """
import pathlib, sys, time
from app.__main__ import main
from app.routes import predict

gate, classify = pathlib.Path(sys.argv[1]), predict.classify

def blocked(*arguments, **options):
    while not gate.exists():
        time.sleep(0.01)
    return classify(*arguments, **options)

predict.classify = blocked
sys.exit(main([]))
"""


@contextlib.contextmanager
def blocked(gate: Path, **env: str) -> Iterator[Service]:
    """A service with one worker, whose predictions wait until the file `gate` exists."""
    patient = {"MAX_CONCURRENCY": "1", "REQUEST_TIMEOUT_S": "3600", "DRAIN_SECONDS": "3600"}
    with running(command=(sys.executable, "-c", _BLOCKED, str(gate)), **patient | env) as service:
        service.wait()
        yield service
