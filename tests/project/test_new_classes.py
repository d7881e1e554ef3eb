"""`make new SOURCE=folder`: photos of other classes in, a service that tells them out, no code touched."""

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.conftest import needs
from tests.helpers.checkout import copied
from tests.helpers.service import Client, free_port
from tests.helpers.waiting import HANG_S

CORNERS = {"triangle": 3, "square": 4}


def shape(name: str, seed: int) -> Image.Image:
    """Draw one, of any colour, size and place, on any other colour."""
    chance = random.Random(f"{name} {seed}")
    ground, ink = ([chance.randrange(low, low + 100) for _ in range(3)] for low in (0, 155))
    image = Image.new("RGB", (260, 240), tuple(ground))
    draw = ImageDraw.Draw(image)
    place = (chance.randrange(100, 160), chance.randrange(100, 140), chance.randrange(50, 85))
    if name == "circle":
        draw.circle(place[:2], place[2], tuple(ink))
    else:
        draw.regular_polygon(place, CORNERS[name], chance.randrange(-15, 16), tuple(ink))
    return image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("circle", "square", "triangle"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for seed in range(40):
            shape(name, seed).save(tmp_path / "photos" / name / f"{seed}.png")
    return tmp_path / "photos"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = copied(tmp_path / "project")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


@pytest.fixture
def new(project: Path, tmp_path: Path) -> Iterator[Callable[[Path], Client]]:
    """Call the command; a client of the service that comes up at its end."""
    log = tmp_path / "make.log"
    processes = []

    def start(source: Path) -> Client:
        client = Client(free_port())
        client.started = time.perf_counter()
        env = os.environ | {"DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        with log.open("w") as out:
            processes.append(
                subprocess.Popen(
                    ["make", "new", f"SOURCE={source}", f"PORT={client.port}"],
                    cwd=project, env=env, stdout=out, stderr=out, start_new_session=True,
                )
            )  # fmt: skip
        client.ended = lambda: log.read_text()[-3000:] if processes[-1].poll() is not None else None
        return client

    yield start
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(HANG_S)


@needs("make")
def test_three_classes_of_one_s_own(photos, new):
    service = new(photos)
    service.wait(seconds=1500)
    _, model = service.get("/model")
    assert model["classes"] == ["circle", "square", "triangle"]
    for name in model["classes"]:
        image = shape(name, 1000)
        image.save(photos / "new.png")
        status, answer = service.predict((photos / "new.png").read_bytes())
        assert status == 200
        assert answer["label"] == name
        assert set(answer["probabilities"]) == set(model["classes"])
    _, document = service.get("/openapi.json")
    assert document["components"]["schemas"]["Label"]["enum"] == [*model["classes"], "unknown"]
