"""What the deployed service says about itself, and the smoke test, which decides whether it works.

The service is asked without any provider's token.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

from deploy.cancellation import CANCELLATION
from deploy.output import is_secret, say
from deploy.process import run
from deploy.target import DeployError
from ml.api_session import session
from ml.model.urls import LOOPBACK

SCRIPT = Path(__file__).parents[1] / "scripts" / "smoke_test.sh"
_SETTLE_S = 60  # a provider may route to the old version for a moment
_TEST_S = 600  # time limit, without WAIT_SECONDS
_NEEDED = ("API_KEY", "METRICS_TOKEN")


@dataclass(frozen=True)
class ServedModel:
    """The model that a service answers with: its version, and its file's SHA-256 in hexadecimal."""

    version: str
    sha256: str


def model_of(url: str, seconds: float = 10) -> ServedModel | None:
    """Return the model that answers at a URL, or None if the service does not say."""
    try:
        answer = _get(url, "/model", seconds).json()
        return ServedModel(str(answer["version"]), str(answer["sha256"]))
    except (requests.RequestException, KeyError, TypeError):
        return None


def is_ready(url: str) -> bool:
    """Return whether the service has loaded its model and accepts requests."""
    try:
        _get(url, "/ready", 5)
    except requests.RequestException:
        return False
    return True


def _get(url: str, path: str, seconds: float) -> requests.Response:
    with session(attempts=1, timeout_s=(seconds, seconds)) as client:
        client.trust_env = urlsplit(url).hostname not in LOOPBACK  # no proxy
        response = client.get(url.rstrip("/") + path)
        response.raise_for_status()
        return response


@dataclass(frozen=True)
class SmokeTest:
    """A bash script that gets the service's URL. Of all secrets it sees only the service's own.

    The service gets `wait_s` seconds to be ready, and is asked for its model every `poll_s` seconds.
    """

    script: Path
    wait_s: int
    poll_s: float

    def run(self, url: str, sha256: str) -> None:
        """Test the service at a URL, and that its model's file has this SHA-256, unless it is empty.

        Raises:
            DeployError: the test failed.
            Cancelled: a signal came.
        """
        until = time.monotonic() + min(_SETTLE_S, self.wait_s)
        while sha256 and (model := model_of(url)) and model.sha256 != sha256 and time.monotonic() < until:
            CANCELLATION.pause(self.poll_s)
        say(f"smoke test of {url}")
        env = {name: value for name, value in os.environ.items() if name in _NEEDED or not is_secret(name)}
        # The caller may have set EXPECTED_* for another deploy.
        env |= {"WAIT_SECONDS": str(self.wait_s), "EXPECTED_SHA256": sha256, "EXPECTED_VERSION": ""}
        limit_s = self.wait_s + _TEST_S
        done = run(
            "bash", self.script, url, env=env, seconds=limit_s, check=False, cancellable=True, show=True
        )
        if done.returncode != 0:
            raise DeployError("the smoke test failed")
