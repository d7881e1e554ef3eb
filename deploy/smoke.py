"""The smoke test: checks that the new version answers at a URL and works."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from deploy.cancellation import CANCELLATION
from deploy.output import is_secret, say
from deploy.process import run
from deploy.service import model_of
from deploy.target import DeployError

SCRIPT = Path(__file__).parents[1] / "scripts" / "smoke_test.sh"
_SETTLE_S = 60  # a provider may route to the old version for a moment
_TEST_S = 600  # time limit, without WAIT_SECONDS
_NEEDED = ("API_KEY", "METRICS_TOKEN")
_NOT_INHERITED = ("EXPECTED_VERSION", "EXPECTED_SHA256")  # the caller may have set them for another deploy


@dataclass(frozen=True)
class SmokeTest:
    """How the smoke test runs.

    Attributes:
        script: a bash script that gets the URL. Of all secrets it sees only the service's own.
        wait_s: how long the service may take to get ready, in seconds.
        poll_s: between two requests for its model, in seconds.
    """

    script: Path
    wait_s: int
    poll_s: float

    def run(self, url: str, sha256: str) -> None:
        """Test the service at a URL.

        Args:
            url: of the service.
            sha256: that its model's file must have; empty: any.

        Raises:
            DeployError: the test failed.
            Cancelled: a signal came.
        """
        until = time.monotonic() + min(_SETTLE_S, self.wait_s)
        while sha256 and (model := model_of(url)) and model.sha256 != sha256 and time.monotonic() < until:
            CANCELLATION.pause(self.poll_s)
        say(f"smoke test of {url}")
        env = {
            name: value
            for name, value in os.environ.items()
            if name in _NEEDED or not (is_secret(name) or name in _NOT_INHERITED)
        }
        env |= {"WAIT_SECONDS": str(self.wait_s)} | ({"EXPECTED_SHA256": sha256} if sha256 else {})
        limit_s = self.wait_s + _TEST_S
        done = run(
            "bash", self.script, url, env=env, seconds=limit_s, check=False, cancellable=True, show=True
        )
        if done.returncode != 0:
            raise DeployError("the smoke test failed")
