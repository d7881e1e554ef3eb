"""`make new SOURCE=folder` in a fresh checkout: photos of other classes in, a service that tells them out.

Then what DVC makes of the result: which stages a parameter affects, push and pull.
"""

import contextlib
import dataclasses
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from ml import set_params
from scripts.common.process import free_port
from tests.conftest import needs
from tests.helpers.checkout import copied
from tests.helpers.service import Client
from tests.helpers.waiting import HANG_S

TRIANGLE = "tri & angle (50 %), 'no.' #1 + @ = [x]; ! $a$ \N{CAT}"
"""A folder may have any name."""
CLASSES = ("circle", "square", TRIANGLE)
CORNERS = {TRIANGLE: 3, "square": 4}
PHOTOS = 40
"""Photos per class."""
ENV = os.environ | {
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "test", "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test", "GIT_COMMITTER_EMAIL": "test@example.org",
}  # fmt: skip


def shape(name: str, seed: int) -> Image.Image:
    """Draw one, of any colour, size and place, on any other colour."""
    chance = random.Random(f"{'triangle' if name == TRIANGLE else name} {seed}")
    ground, ink = ([chance.randrange(low, low + 100) for _ in range(3)] for low in (0, 155))
    image = Image.new("RGB", (260, 240), tuple(ground))
    draw = ImageDraw.Draw(image)
    place = (chance.randrange(100, 160), chance.randrange(100, 140), chance.randrange(50, 85))
    if name == "circle":
        draw.circle(place[:2], place[2], tuple(ink))
    else:
        draw.regular_polygon(place, CORNERS[name], chance.randrange(-15, 16), tuple(ink))
    return image


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in CLASSES:
        (folder / name).mkdir()
        for seed in range(PHOTOS):
            shape(name, seed).save(folder / name / f"{seed}.png")
    return folder


@dataclasses.dataclass
class Made:
    """A fresh checkout in which `make new` has run, and the service that it has started."""

    project: Path
    service: Client
    log: Path

    def run(self, *command: str, folder: Path | None = None) -> str:
        done = subprocess.run(
            command, cwd=folder or self.project, env=ENV, capture_output=True, text=True, timeout=HANG_S
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def outdated(self) -> list[str]:
        """The stages that `dvc repro` would start with."""
        return re.findall(r"^(\w+):$", self.run("dvc", "status"), re.MULTILINE)


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("made")
    made = Made(copied(folder / "project"), Client(free_port()), folder / "make.log")
    small = {"package.calibration_photos": "32", "recipes.efficientnet_lite0.fewest_steps": "0"}
    small |= {"prepare.image_size": "160", "package.examples": "test"}
    small |= {"train.precision": "32-true"}  # the same network on every CPU
    set_params.assign(small, made.project / "params.yaml")
    made.run("git", "init", "-q")
    made.run("git", "add", ".")
    made.run("git", "commit", "-qm", "start")
    command = ["make", "new", f"SOURCE={photos}", f"PORT={made.service.port}"]
    made.service.started = time.perf_counter()
    with made.log.open("w") as log:
        process = subprocess.Popen(
            command, cwd=made.project, env=ENV, stdout=log, stderr=log, start_new_session=True
        )
    made.service.ended = lambda: made.log.read_text()[-3000:] if process.poll() is not None else None
    try:
        made.service.wait(seconds=1500)
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(HANG_S)


def stages_run(output: str) -> list[str]:
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)


@needs("make")
def test_three_classes_of_one_s_own(made: Made, photos: Path) -> None:
    _, model = made.service.get("/model")
    assert model["classes"] == list(CLASSES)
    for name in CLASSES:
        image = shape(name, 1000)
        image.save(photos / "new.png")
        status, answer = made.service.predict((photos / "new.png").read_bytes())
        (photos / "new.png").unlink()
        assert status == 200
        assert answer["label"] == name
        assert set(answer["probabilities"]) == set(CLASSES)
    _, document = made.service.get("/openapi.json")
    assert document["components"]["schemas"]["Label"]["enum"] == [*CLASSES, "unknown"]


@needs("make")
def test_what_the_pipeline_says(made: Made) -> None:
    log = made.log.read_text()
    assert stages_run(log) == ["ingest", "prepare", "train", "evaluate", "package", "register"]
    summary = r"^models/model\.pt: version \w{12}, accuracy [\d.]+ % .* on \d+ test photos; "
    assert re.search(summary, log, re.MULTILINE)
    assert "Warning" not in log  # that would worry, and tell nothing


@needs("make", "curl")
def test_the_smoke_test_checks_the_examples_that_the_owner_publishes(made: Made) -> None:
    assert f"\nexample photos: {', '.join(CLASSES)}\n" in made.log.read_text()
    output = made.run("scripts/smoke_test.sh", f"http://127.0.0.1:{made.service.port}")
    assert re.search(r"^examples .* 3$", output, re.MULTILINE)
    assert output.endswith("all 11 checks passed\n")


@needs("make")
def test_stages_that_a_parameter_affects_are_outdated(made: Made) -> None:
    assert made.outdated() == ["register"]  # which always runs
    path = made.project / "params.yaml"
    before = path.read_text()
    for name, value, stages in (
        ("recipes.efficientnet_lite2.epochs", "9", ["train"]),  # a second look may have any recipe
        ("package.half", "false", ["package"]),
        ("package.examples", "", ["package"]),
        ("stability.max_flips.grey", "0.04", ["package"]),
        ("evaluate.resamples", "60", ["evaluate", "package"]),
    ):
        set_params.assign({name: value}, path)
        assert made.outdated() == [*stages, "register"], name
        path.write_text(before)


@needs("make")
def test_push_and_pull(made: Made, tmp_path: Path) -> None:
    assert "no DVC remote" in made.run("scripts/pull.sh")
    made.run("dvc", "remote", "add", "-d", "storage", str(tmp_path / "remote"))
    made.run("dvc", "push")
    made.run("git", "add", ".")
    made.run("git", "commit", "-qm", "trained")
    elsewhere = tmp_path / "elsewhere"
    made.run("git", "clone", "-q", str(made.project), str(elsewhere))
    assert not (elsewhere / "models").exists()
    made.run("scripts/pull.sh", folder=elsewhere)
    model = Path("models", "model.pt")
    assert (elsewhere / model).read_bytes() == (made.project / model).read_bytes()
    assert len(list((elsewhere / "data" / "raw").glob("*/*"))) == PHOTOS * len(CLASSES)
    # Nothing is trained again, but the model is registered here too.
    assert "champion" in (registered := made.run("dvc", "repro", folder=elsewhere))
    assert stages_run(registered) == ["register"]
