"""The commands of the release and deploy workflows, run in a copy of the repository."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from scripts.common.process import free_port
from scripts.rehearsing.machine import RehearsalError, own_address
from scripts.rehearsing.photos import write_photos

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "prepare.near_duplicate_bits": "-1",  # all photos are cut out of the same two
    "recipes.efficientnet_lite0.runs": "1",
    "recipes.efficientnet_lite0.epochs": "1",
    "recipes.efficientnet_lite0.batch_size": "16",
    "evaluate.resamples": "100",
    "package.calibration_photos": "32",
}
"""Parameters with which the pipeline takes about a minute."""


class Rehearsal:
    """Runs the commands of the workflows in a copy of the repository.

    Attributes:
        name: of the deployed container.
        image: its image's tag.
        repro: the command that runs the pipeline.
        folder: working folder.
        project: the copy of the repository.
        env: environment variables of all commands.
    """

    name = "cats-vs-dogs-rehearsal"
    image = f"{name}:now"
    repro: tuple[str, ...] = ("dvc", "repro", "--quiet")

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        """Take the working folder and the variables of `machine.prepared`."""
        self.folder, self.project = folder, folder / "project"
        self.url = f"http://127.0.0.1:{free_port()}"
        self.started = time.monotonic()
        person = {"NAME": "rehearsal", "EMAIL": "rehearsal@example.org"}
        self.env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "WAIT_SECONDS": "60",
            **{f"GIT_{role}_{key}": person[key] for role in ("AUTHOR", "COMMITTER") for key in person},
            **env,
        }

    def rehearse(self) -> None:
        """Run all steps, from a change of params.yaml to a rollback.

        Raises:
            RehearsalError: a step did not end as it should.
        """
        self.copy_repository()
        self.say("Choose a short training recipe")
        self.set_params(SMALL)
        self.run("git", "diff", "--unified=0", "params.yaml")
        self.say("Run the pipeline on 80 photos: ingest, prepare, train, evaluate, package, register")
        self.train("v1.0.0")
        self.show_runs()
        self.say("The gate accepts the model; publish it as v1.0.0, on a stand-in for GitHub")
        good = self.publish("v1.0.0")
        self.say("Build the image and deploy it; the service downloads its model from the release")
        self.run("make", "image", f"IMAGE={self.image}")
        self.deploy("v1.0.0")
        self.check_served(good)
        self.show_service()
        self.say("Train v1.1.0 on photos in the wrong folders. Its test photos cannot show the mistake")
        self.train("v1.1.0", mixed_up=True)
        if self.publish("v1.1.0") == good:
            raise RehearsalError("both releases have the same model")
        self.say("Deploy v1.1.0: the smoke test fails, and v1.0.0 is brought back")
        self.deploy("v1.1.0", expected=1)
        self.check_served(good)

    def show_runs(self) -> None:
        """Show the training run; does nothing unless the rehearsal is filmed."""

    def show_service(self) -> None:
        """Show the deployed service; does nothing unless the rehearsal is filmed."""

    def say(self, text: str) -> None:
        """Print the heading of a step."""
        print(f"\n=== {time.monotonic() - self.started:4.0f} s  {text}", flush=True)

    def run(self, *command: str, expected: int = 0, env: Mapping[str, str] | None = None) -> None:
        """Run a command and show its output.

        Raises:
            RehearsalError: the exit code is not the expected one.
        """
        code = self.execute(command, self.env | dict(env or {}))
        if code != expected:
            raise RehearsalError(f"exit code {code} instead of {expected}: {shlex.join(command)}")

    def execute(self, command: tuple[str, ...], env: Mapping[str, str]) -> int:
        """Show a command and its output; return its exit code."""
        print(f"$ {shlex.join(command)}", flush=True)
        return subprocess.run(command, cwd=self.project, env=env).returncode  # noqa: S603

    def copy_repository(self) -> None:
        """Copy the files that git tracks, with uncommitted changes, into a new repository."""
        listing = ["git", "ls-files", "-z"]
        names = subprocess.run(listing, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
        for name in names.stdout.split("\0"):
            if (ROOT / name).is_file():
                (self.project / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.project / name)
        self.run("git", "init", "--quiet")
        self.commit("Copy the repository")

    def set_params(self, values: Mapping[str, str]) -> None:
        """Set values in params.yaml."""
        self.run("python", "-m", "ml", "params", *(f"{name}={value}" for name, value in values.items()))

    def commit(self, message: str) -> None:
        """Commit all changes."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def train(self, tag: str, mixed_up: bool = False) -> None:
        """Run the pipeline on new photos and commit its results."""
        write_photos(self.folder / f"photos-{tag}", mixed_up)
        self.set_params({"ingest.source": f"../photos-{tag}"})
        self.run(*self.repro)
        self.commit(f"Model for {tag}")

    def publish(self, tag: str) -> str:
        """Publish the model that the pipeline packaged; return its version."""
        self.run("python", "-m", "release", "gate")
        self.run("python", "-m", "release", "publish", "--tag", tag)
        report = json.loads((self.project / "reports" / "package" / "package.json").read_text("utf-8"))
        return str(report["version"])

    def deploy(self, tag: str, expected: int = 0) -> None:
        """Deploy the image with the model of a release, as the workflow does."""
        command = ["python", "-m", "release", "model-url", tag]
        done = subprocess.run(  # noqa: S603
            command, cwd=self.project, env=self.env, check=True, text=True, stdout=subprocess.PIPE
        )
        model = dict(line.split("=", 1) for line in done.stdout.split())
        # Inside the container, 127.0.0.1 is the container itself.
        model_url = model["MODEL_URL"].replace("127.0.0.1", own_address())
        port = self.url.rpartition(":")[2]
        self.run(
            *("python", "-m", "deploy", "docker", "--name", self.name, "--port", port),
            *("--image", self.image, "--model-url", model_url, "--model-sha256", model["MODEL_SHA256"]),
            expected=expected,
        )

    def check_served(self, version: str) -> None:
        """Check which model the service uses.

        Raises:
            RehearsalError: it is another version, or the service does not work.
        """
        self.run("scripts/smoke_test.sh", self.url, env={"EXPECTED_VERSION": version})
