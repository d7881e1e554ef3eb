#!/usr/bin/env python3
"""The whole way on this machine: photos, pipeline, release, image, deployment; then a bad release, caught.

usage: rehearsal.py

Everything is real but GitHub, for which a server on this machine stands in (tests/standins/github.py). The
repository is copied first, so nothing of yours changes; the photos are cut out of the two in tests/photos.
Needs docker or podman (CONTAINER names another command). Exit code 0: each step ended as it should.
"""

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from PIL import Image, ImageEnhance

ROOT = Path(__file__).resolve().parents[1]
NAME = "cats-vs-dogs-rehearsal"
IMAGE = f"{NAME}:now"
PHOTOS = 40
"""Of each class: the least with which training, validation and test mean something."""
SMALL = {
    "prepare.near_duplicate_bits": "-1",  # they are cut out of the same two
    "recipes.efficientnet_lite0.runs": "1",
    "recipes.efficientnet_lite0.epochs": "1",
    "recipes.efficientnet_lite0.batch_size": "16",
    "evaluate.resamples": "100",
    "package.calibration_photos": "32",
}


class RehearsalError(Exception):
    """A step that didn't end as it should."""


class Rehearsal:
    """Runs the commands that a workflow would, in a copy of the repository.

    Attributes:
        name: of the container.
        image: its tag.
        repro: the command that runs the pipeline.
        identity: git's options that say who commits.
    """

    name, image = NAME, IMAGE
    repro: tuple[str, ...] = ("dvc", "repro", "--quiet")
    identity: tuple[str, ...] = ("-c", "user.name=rehearsal", "-c", "user.email=rehearsal@example.org")

    def __init__(self, folder: Path, github: str, token: str, repository: str) -> None:
        """Take the folder to work in, and how GitHub's stand-in is reached."""
        self.folder, self.project = folder, folder / "project"
        self.port = free_port()
        self._started = time.monotonic()
        self._env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GITHUB_API_URL": github,
            "GITHUB_REPOSITORY": repository,
            "GITHUB_TOKEN": token,
            "DVC_NO_ANALYTICS": "1",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "WAIT_SECONDS": "60",
        }

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

    def draw_photos(self, photos: Path, mixed_up: bool) -> None:
        """Cut photos out of the two in tests/photos; `mixed_up` puts each into the other's folder."""
        chance = random.Random(mixed_up)  # noqa: S311
        names = ("cat", "dog")
        for name, folder in zip(names, names[::-1] if mixed_up else names, strict=True):
            (photos / folder).mkdir(parents=True)
            with Image.open(ROOT / "tests" / "photos" / f"{name}.jpg") as photo:
                for number in range(PHOTOS):
                    path = photos / folder / f"{number:03d}.jpg"
                    _cut(photo, chance).save(path, quality=88)

    def release(self, tag: str, mixed_up: bool = False) -> str:
        """Train on new photos and publish; return the model's version."""
        photos = self.folder / f"photos for {tag}"
        self.draw_photos(photos, mixed_up)
        self.choose({"ingest.source": str(photos)})
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


def _cut(photo: Image.Image, chance: random.Random) -> Image.Image:
    side = int(min(photo.size) * chance.uniform(0.6, 1))
    left, top = chance.randint(0, photo.width - side), chance.randint(0, photo.height - side)
    part = photo.convert("RGB").crop((left, top, left + side, top + side))
    part = part.rotate(chance.uniform(-15, 15), Image.Resampling.BILINEAR)
    if chance.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(part).enhance(chance.uniform(0.7, 1.3)).resize((256, 256))


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_engine() -> str | None:
    """Return the command of docker or podman, whichever works."""
    for name in filter(None, (os.environ.get("CONTAINER"), "docker", "podman")):
        if shutil.which(name):
            answers = subprocess.run([name, "info"], capture_output=True)  # noqa: S603
            if answers.returncode == 0:
                return name
    return None


def own_address() -> str:
    """Return an address of this machine that containers reach too; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"


@contextlib.contextmanager
def cleared(engine: str, name: str = NAME) -> Iterator[None]:
    """Leave no container behind."""
    try:
        yield
    finally:
        for suffix in ("", "-next", "-previous"):
            subprocess.run(  # noqa: S603
                [engine, "rm", "--force", "--volumes", name + suffix],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )


def rehearse(rehearsal: Rehearsal) -> None:
    """Go the whole way.

    Raises:
        RehearsalError: a step ended in another way than it should.
    """
    rehearsal.say("a copy of the repository, with a small pipeline")
    rehearsal.copy_repository()
    rehearsal.choose(SMALL)
    rehearsal.say("photos, pipeline, gate, release v1.0.0")
    good = rehearsal.release("v1.0.0")
    rehearsal.say("the image")
    rehearsal.run("make", "image", f"IMAGE={IMAGE}")
    rehearsal.say("v1.0.0 is deployed: it downloads its model from the release, through a redirect")
    rehearsal.deploy("v1.0.0")
    rehearsal.must_serve(good)
    rehearsal.say("v1.1.0 comes of photos in the wrong folders: its own test photos can't tell")
    bad = rehearsal.release("v1.1.0", mixed_up=True)
    if bad == good:
        raise RehearsalError("the second model is the first one")
    rehearsal.say("v1.1.0 is deployed: the smoke test fails, v1.0.0 comes back, the exit code is 1")
    rehearsal.deploy("v1.1.0", expected=1)
    rehearsal.must_serve(good)
    rehearsal.say(f"as it should be: {good} serves")


def main() -> int:
    """Run it; return the exit code."""
    engine = find_engine()
    if engine is None:
        print("error: needs docker or podman, running; CONTAINER names another command", file=sys.stderr)
        return 1
    os.environ["CONTAINER"] = engine
    sys.path.insert(0, str(ROOT))
    from tests.standins.github import REPOSITORY, TOKEN, GitHub

    with tempfile.TemporaryDirectory(prefix="rehearsal-") as temporary, cleared(engine):
        folder = Path(temporary)
        with GitHub(folder / "github", host="0.0.0.0").serving() as github:  # noqa: S104  (for the container)
            url = github.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
            try:
                rehearse(Rehearsal(folder, url, TOKEN, REPOSITORY))
            except RehearsalError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
