"""Rehearse a release on this machine: pipeline, GitHub release, container image, deployment, and a rollback.

It trains and deploys v1.0.0, then trains v1.1.0 on photos in the wrong folders. The smoke test must reject
v1.1.0, and v1.0.0 must come back. Everything is real except GitHub, for which a local server stands in. The
commands run in a temporary copy of the repository, so your files do not change.

It needs docker or podman; the environment variable CONTAINER names another command.

Exit code 0: every step ended as it should.
"""

import contextlib
import json
import os
import random
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image, ImageEnhance

from deploy.engine import ContainerEngine
from deploy.target import DeployError
from scripts.common import arguments
from scripts.common.process import ROOT, free_port
from scripts.standins.github import GitHub

SMALL = {
    "prepare.near_duplicate_bits": "-1",  # all photos are cut out of the same two
    "recipes.efficientnet_lite0.runs": "1",
    "recipes.efficientnet_lite0.epochs": "1",
    "recipes.efficientnet_lite0.fewest_steps": "0",
    "recipes.efficientnet_lite0.batch_size": "16",
    "evaluate.resamples": "100",
    "package.calibration_photos": "32",
}
"""Parameters with which the pipeline takes about a minute."""
_PHOTOS = 40  # per class; with fewer, some of the splits would be too small to measure anything


class RehearsalError(Exception):
    """A step did not end as it should."""


class Rehearsal:
    """Runs the commands of the release and deploy workflows in a copy of the repository.

    Attributes:
        name: of the deployed container.
        repro: the command that runs the pipeline.
        folder: working folder; `project` inside it is the copy of the repository.
        env: environment variables of all commands.
        url: of the deployed service.
        started: moment of the start, in seconds of `time.monotonic`.
    """

    name = "cats-vs-dogs-rehearsal"
    repro: tuple[str, ...] = ("dvc", "repro", "--quiet")

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        """Take the working folder and the variables of `prepared`."""
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
        self.say("The gate accepts the model; publish it as v1.0.0, on a stand-in for GitHub")
        good = self.publish("v1.0.0")
        self.say("Build the image and deploy it; the service downloads its model from the release")
        self.run("make", "image", f"IMAGE={self.name}:now")
        self.deploy("v1.0.0")
        self.check_served(good)
        self.say("Train v1.1.0 on photos in the wrong folders. Its test photos cannot show the mistake")
        self.train("v1.1.0", mixed_up=True)
        if self.publish("v1.1.0") == good:
            raise RehearsalError("both releases have the same model")
        self.say("Deploy v1.1.0: the smoke test fails, and v1.0.0 is brought back")
        self.deploy("v1.1.0", expected=1)
        self.check_served(good)

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
        names = subprocess.check_output(listing, cwd=ROOT, text=True)  # noqa: S603
        for name in names.split("\0"):
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
        port = self.url.rpartition(":")[2]
        self.run(
            *("python", "-m", "deploy", "docker", "--name", self.name, "--port", port),
            *("--image", f"{self.name}:now", *self.release(tag)),
            expected=expected,
        )

    def release(self, tag: str) -> tuple[str, ...]:
        """Return the options of a deployment with the model of a release."""
        command = ["python", "-m", "release", "model-url", tag]
        output = subprocess.check_output(command, cwd=self.project, env=self.env, text=True)  # noqa: S603
        model = dict(line.split("=", 1) for line in output.split())
        # Inside the container, 127.0.0.1 is the container itself.
        model_url = model["MODEL_URL"].replace("127.0.0.1", own_address())
        return "--model-url", model_url, "--model-sha256", model["MODEL_SHA256"]

    def check_served(self, version: str) -> None:
        """Check that the service works and uses this version of the model."""
        self.run("scripts/smoke_test.sh", self.url, env={"EXPECTED_VERSION": version})


def write_photos(target: Path, mixed_up: bool) -> None:
    """Write one folder of photos per class, all cut out of the two in tests/photos.

    Args:
        target: the folder.
        mixed_up: whether to put the cats into dog/ and the dogs into cat/.
    """
    rng = random.Random(mixed_up)  # noqa: S311
    names = ("cat", "dog")
    for name, folder in zip(names, names[::-1] if mixed_up else names, strict=True):
        (target / folder).mkdir(parents=True)
        with Image.open(ROOT / "tests" / "photos" / f"{name}.jpg") as photo:
            for number in range(_PHOTOS):
                path = target / folder / f"{number:03d}.jpg"
                random_part(photo, rng).save(path, quality=88)


def random_part(photo: Image.Image, rng: random.Random) -> Image.Image:
    """Return a random part of a photo, 256 x 256 pixels, turned, brighter or darker, and maybe mirrored."""
    side = int(min(photo.size) * rng.uniform(0.6, 1))
    left, top = rng.randint(0, photo.width - side), rng.randint(0, photo.height - side)
    part = photo.convert("RGB").crop((left, top, left + side, top + side))
    part = part.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(part).enhance(rng.uniform(0.7, 1.3)).resize((256, 256))


@contextlib.contextmanager
def prepared(name: str) -> Iterator[tuple[dict[str, str], GitHub]]:
    """Start the stand-in for GitHub; yield the variables that name it and the container engine, and itself.

    Args:
        name: of the container that will be deployed; it is removed at the end.

    Raises:
        RehearsalError: there is no container engine.
    """
    try:
        engine = ContainerEngine(os.environ)
    except DeployError as error:
        raise RehearsalError(str(error)) from None
    # It listens on all addresses, because the container downloads from it too.
    with GitHub(host="0.0.0.0").serving() as github:  # noqa: S104
        try:
            yield {"CONTAINER": engine.command} | github.environment(), github
        finally:
            for suffix in ("-proxy", "", "-next", "-previous", "-back", "-clone"):
                with contextlib.suppress(DeployError):
                    engine.remove(name + suffix)


def own_address() -> str:
    """Return an address of this machine that containers can reach; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def main() -> int:
    """Rehearse; return the exit code."""
    arguments.parser("rehearsal", __doc__, "").parse_args()
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as temporary:
        folder = Path(temporary)
        try:
            with prepared(Rehearsal.name) as (env, _):
                Rehearsal(folder, env).rehearse()
        except RehearsalError as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
