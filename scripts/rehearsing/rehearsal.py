"""The commands that a workflow would run, in a copy of the repository."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from common.process import free_port

from rehearsing import photos
from rehearsing.machine import RehearsalError, own_address

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "prepare.near_duplicate_bits": "-1",  # they are cut out of the same two
    "recipes.efficientnet_lite0.runs": "1",
    "recipes.efficientnet_lite0.epochs": "1",
    "recipes.efficientnet_lite0.batch_size": "16",
    "evaluate.resamples": "100",
    "package.calibration_photos": "32",
}


class Rehearsal:
    """Runs the commands that a workflow would, in a copy of the repository.

    Attributes:
        name: of the container.
        image: its tag.
        repro: the command that runs the pipeline.
        identity: git's options that say who commits.
    """

    name = "cats-vs-dogs-rehearsal"
    image = f"{name}:now"
    repro: tuple[str, ...] = ("dvc", "repro", "--quiet")
    identity: tuple[str, ...] = ("-c", "user.name=rehearsal", "-c", "user.email=rehearsal@example.org")

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        """Take the folder to work in, and what the commands get of `machine.prepared`."""
        self.folder, self.project = folder, folder / "project"
        self.port = free_port()
        self._started = time.monotonic()
        self._env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "WAIT_SECONDS": "60",
        }
        self._env |= env

    def say(self, text: str) -> None:
        """Head a step."""
        print(f"\n=== {time.monotonic() - self._started:4.0f} s  {text}", flush=True)

    def run(self, *command: str, expected: int = 0, env: Mapping[str, str] | None = None) -> None:
        """Run a command and show what it says.

        Raises:
            RehearsalError: its exit code is another than expected.
        """
        code = self.execute(command, self._env | dict(env or {}))
        if code != expected:
            raise RehearsalError(f"{command[0]} ended with {code}, expected {expected}")

    def execute(self, command: tuple[str, ...], env: Mapping[str, str]) -> int:
        """Show a command and what it says; return its exit code."""
        print(f"$ {' '.join(command)}", flush=True)
        return subprocess.run(command, cwd=self.project, env=env).returncode  # noqa: S603

    def told(self, *command: str) -> str:
        """Return what a command says."""
        return subprocess.run(  # noqa: S603
            command, cwd=self.project, env=self._env, check=True, text=True, stdout=subprocess.PIPE
        ).stdout

    def copy_repository(self) -> None:
        """Copy what git knows of, with its changes."""
        names = subprocess.run(
            ["git", "ls-files", "-z"],  # noqa: S607
            cwd=ROOT,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (self.project / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.project / name)
        self.run("git", "init", "--quiet")
        self.commit("A copy")

    def choose(self, choices: Mapping[str, str]) -> None:
        """Write to params.yaml."""
        self.run("python", "-m", "ml.params", *(f"{name}={value}" for name, value in choices.items()))

    def commit(self, message: str) -> None:
        """Commit everything."""
        self.run("git", "add", "--all")
        self.run("git", *self.identity, "commit", "--quiet", "--message", message)

    def release(self, tag: str, mixed_up: bool = False) -> str:
        """Train on new photos and publish; return the model's version."""
        folder = self.folder / f"photos for {tag}"
        photos.draw(folder, mixed_up)
        self.choose({"ingest.source": str(folder)})
        self.run(*self.repro)
        self.commit(f"Model for {tag}")
        return self.publish(tag)

    def publish(self, tag: str) -> str:
        """Publish what the pipeline made; return the model's version."""
        self.run("python", "-m", "ml.gate")
        self.run("python", "-m", "ml.publish", "--tag", tag)
        report = json.loads((self.project / "reports" / "package" / "package.json").read_text("utf-8"))
        return str(report["version"])

    def deploy(self, tag: str, expected: int = 0) -> None:
        """Deploy the image with that release's model, as the workflow does."""
        lines = self.told("python", "-m", "ml.releases", tag).split()
        model = dict(line.split("=", 1) for line in lines)
        model_url = model["MODEL_URL"].replace("127.0.0.1", own_address())  # loopback is the container's own
        self.run(
            *("python", "scripts/deploy.py", "docker", "--name", self.name, "--port", str(self.port)),
            *("--image", self.image, "--model-url", model_url, "--model-sha256", model["MODEL_SHA256"]),
            expected=expected,
        )

    def must_serve(self, version: str) -> None:
        """Check which model answers.

        Raises:
            RehearsalError: another one.
        """
        self.run("scripts/smoke_test.sh", self.url, env={"EXPECTED_VERSION": version})

    @property
    def url(self) -> str:
        """Where the service is."""
        return f"http://127.0.0.1:{self.port}"
