"""Runs `python -m deploy` as a real process and checks that no output holds a secret."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.waiting import HANG_S, until

COMMAND = (sys.executable, "-m", "deploy")
FAST = ("--poll", "0.02", "--timeout", str(HANG_S))
# Replaces scripts/smoke_test.sh, because no real service answers.
SMOKE = """
model=$(curl --silent --max-time 300 "$1/model")
[[ -z ${EXPECTED_SHA256:-} || $model == *$EXPECTED_SHA256* ]] || { echo "another model: $model"; exit 1; }
curl --silent --fail --max-time 300 "$1/smoke" || { echo "it is broken; the key is ${API_KEY:-}"; exit 1; }
[[ -z ${RENDER_API_KEY:-}${GCP_ACCESS_TOKEN:-} ]] || { echo "a provider's token is visible"; exit 1; }
"""


@dataclass
class Done:
    code: int
    out: str
    error: str
    summary: str
    outputs: str

    @property
    def output(self) -> str:
        return self.out + self.error


class Deploying:
    """Calls of `python -m deploy` for one target with one environment."""

    def __init__(self, folder: Path, target: str, secrets: tuple[str, ...], **env: str) -> None:
        self._folder, self._target = folder, target
        self._processes: list[subprocess.Popen[str]] = []
        self.secrets = (*secrets, "smoke-test-key")
        smoke = folder / "smoke.sh"
        smoke.write_text(SMOKE)
        self.options: tuple[str, ...] = (*FAST, "--smoke-test", str(smoke))
        inherited = {
            n: v
            for n, v in os.environ.items()
            if n in ("PATH", "HOME", "TMPDIR", "COVERAGE_PROCESS_CONFIG") or n.startswith("CONTAINER")
        }
        self.env = inherited | {
            "WAIT_SECONDS": "60",
            "API_KEY": "smoke-test-key",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.env |= {
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "GITHUB_OUTPUT": str(folder / "output"),
        } | env

    def __call__(self, *options: str, **env: str) -> Done:
        return self.end(self.begin(*options, **env))

    def begin(self, *options: str, **env: str) -> "subprocess.Popen[str]":
        for name in ("summary", "output"):
            (self._folder / name).write_text("")
        process = subprocess.Popen(
            [*COMMAND, self._target, *self.options, *options],
            env=self.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return process

    def end(self, process: "subprocess.Popen[str]") -> Done:
        try:
            out, error = process.communicate(timeout=HANG_S)
        finally:
            process.kill()
        summary, outputs = ((self._folder / name).read_text() for name in ("summary", "output"))
        for secret in self.secrets:
            assert secret not in out + error + summary + outputs
        assert "Traceback" not in error
        assert ".py, line" not in error
        return Done(process.returncode, out, error, summary, outputs)

    def cancel(
        self, process: "subprocess.Popen[str]", when: Callable[[], bool], number: int = signal.SIGTERM
    ) -> Done:
        """Send a signal once a condition is true."""
        until(lambda: process.poll() is not None or when())
        process.send_signal(number)
        return self.end(process)

    def __enter__(self) -> "Deploying":
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no process behind when a test has failed."""
        for process in self._processes:
            process.kill()
            process.communicate()
