"""Whether what answers at a URL is what was deployed, and works."""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from deployment.cancellation import CANCELLATION
from deployment.output import quote, say
from deployment.service import model_of
from deployment.target import DeployError

SCRIPT = Path(__file__).parents[1] / "smoke_test.sh"
_SETTLE_S = 60  # a provider's traffic takes a moment to follow
_END_S = 2  # for its own clean-up
_TEST_S = 600  # above WAIT_SECONDS
# Not for the smoke test: the providers' keys, and what the caller may have set for another deploy.
_WITHHELD = ("RENDER_API_KEY", "GCP_ACCESS_TOKEN", "GITHUB_TOKEN", "EXPECTED_VERSION", "EXPECTED_SHA256")


@dataclass(frozen=True)
class SmokeTest:
    """How the smoke test is run.

    Attributes:
        script: run with bash and the URL.
        wait_s: that a service may take to wake up.
        poll_s: between two questions for its model.
    """

    script: Path
    wait_s: int
    poll_s: float

    def run(self, url: str, sha256: str) -> None:
        """Test what answers at a URL.

        Args:
            url: of a service.
            sha256: that its model's file must have; empty: any.

        Raises:
            DeployError: it doesn't pass.
        """
        self._settle(url, sha256)
        say(f"smoke test of {url}")
        env = {name: value for name, value in os.environ.items() if name not in _WITHHELD}
        env |= {"WAIT_SECONDS": str(self.wait_s)} | ({"EXPECTED_SHA256": sha256} if sha256 else {})
        code = _run(["bash", str(self.script), url], env, self.wait_s + _TEST_S)
        if code != 0:
            raise DeployError("the smoke test failed" if code > 0 else "the smoke test took too long")

    def _settle(self, url: str, sha256: str) -> None:
        """Give the provider time to lead here what it says is live."""
        until = time.monotonic() + min(_SETTLE_S, self.wait_s)
        while sha256 and (model := model_of(url)) and model.sha256 != sha256 and time.monotonic() < until:
            CANCELLATION.pause(self.poll_s)


def _run(command: list[str], env: dict[str, str], seconds: float) -> int:
    """Run a command and show what it prints; return its exit code, negative where it took too long.

    In the end nothing of it is left, whatever happens.
    """
    process = subprocess.Popen(  # noqa: S603
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        _show(process, time.monotonic() + seconds)
        return process.wait(_END_S)
    except subprocess.TimeoutExpired:
        return -1
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_END_S)
        if process.stdout:
            process.stdout.close()


def _show(process: "subprocess.Popen[bytes]", until: float) -> None:
    """Print what a process prints, until it has closed its output or the time is up."""
    if process.stdout is None:
        return
    file, rest = process.stdout.fileno(), b""
    while (left := until - time.monotonic()) > 0 and (piece := _read(file, left)):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            quote(line.decode(errors="replace"))
    if rest:
        quote(rest.decode(errors="replace"))


def _read(file: int, seconds: float) -> bytes:
    return os.read(file, 1 << 16) if CANCELLATION.wait_for([file], seconds) else b""
