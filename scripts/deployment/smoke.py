"""Whether what answers at a URL is what was deployed, and works."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
        with _running(["bash", str(self.script), url], env, self.wait_s + _TEST_S) as process:
            for line in process.stdout or ():
                quote(line)
        if process.returncode != 0:
            raise DeployError(
                "the smoke test failed" if process.returncode > 0 else "the smoke test took too long"
            )

    def _settle(self, url: str, sha256: str) -> None:
        """Give the provider time to lead here what it says is live."""
        until = time.monotonic() + min(_SETTLE_S, self.wait_s)
        while sha256 and (model := model_of(url)) and model.sha256 != sha256 and time.monotonic() < until:
            time.sleep(self.poll_s)


@contextlib.contextmanager
def _running(command: list[str], env: dict[str, str], seconds: float) -> Iterator["subprocess.Popen[str]"]:
    """Run a command whose output the caller reads; in the end nothing of it is left."""
    process = subprocess.Popen(  # noqa: S603
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    limit = threading.Timer(seconds, _signal, (process.pid, signal.SIGKILL))
    limit.start()
    try:
        yield process
        process.wait()
    finally:
        limit.cancel()
        if process.poll() is None:
            _signal(process.pid, signal.SIGTERM)
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                _signal(process.pid, signal.SIGKILL)
                process.wait()
        if process.stdout:
            process.stdout.close()


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
