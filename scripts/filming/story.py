"""What is filmed, in order: each step is done for real, and the next one begins when it has ended well."""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from common.process import free_port
from playwright.sync_api import Browser
from rehearsing import photos as cuttings
from rehearsing.machine import RehearsalError
from rehearsing.rehearsal import ROOT, SMALL

from filming import pages, plots
from filming.film import Scene
from filming.recorder import Recorder
from filming.servers import running, started

PHOTOS = ROOT / "tests" / "photos"
CAT, OTHER = PHOTOS / "cat.jpg", PHOTOS / "other"
EXPERIMENT = "cats-vs-dogs"
PANELS = (
    "Requests to /predict by status",
    "Latency of /predict",
    "Labels, in an hour",
    "Processors' worth of time",
)
GOOD, BAD = "v1.0.0", "v1.1.0"


def film(recorder: Recorder, browser: Browser, folder: Path) -> list[Scene]:
    """Go the whole way; return its scenes, whose pictures are in the folder.

    Raises:
        RehearsalError: a step ended in another way than it should.
    """
    camera = pages.Camera(browser, folder)
    recorder.scene("copy", 0, "A copy of the repository")
    recorder.copy_repository()
    recorder.scenes.clear()
    photos = recorder.folder / "photos"
    cuttings.draw(photos, mixed_up=False)

    recorder.scene("change", 1, "params.yaml is changed and committed: 80 other photos, a short recipe")
    recorder.choose({"ingest.source": "../photos"} | SMALL)
    recorder.run("git", "diff", "--unified=0", "params.yaml")
    recorder.commit("Other photos, a short recipe")
    recorder.run("git", "log", "--oneline")

    recorder.scene("pipeline", 2, "The pipeline runs: ingest, prepare, train, evaluate, package")
    recorder.run(*recorder.repro)
    recorder.commit(f"Model for {GOOD}")
    with _mlflow(recorder) as url:
        pages.film_mlflow(camera, recorder.scene("MLflow", 2, ""), url, EXPERIMENT)

    recorder.scene(
        "release", 3, "The gate lets the model pass, and it is released, to a stand-in of GitHub's API"
    )
    good = recorder.publish(GOOD)
    recorder.run("python", "-m", "ml.releases", GOOD)

    recorder.scene("image", 4, "The image is built; what hasn't changed is in the cache")
    recorder.run("make", "image", f"IMAGE={recorder.image}")
    recorder.scene(
        "deployment", 4, "Deployed as a container: it downloads the release, the smoke test is green"
    )
    recorder.deploy(GOOD)

    answers = recorder.scene("page", 5, "")
    pages.film_service(camera, answers, recorder.url, CAT, next(OTHER.glob("*.jpg")))
    _watch(recorder, camera, photos)

    recorder.scene("bad model", 7, f"Now {BAD}, which is bad: of photos in the wrong folders")
    cuttings.draw(recorder.folder / "more-photos", mixed_up=True)
    recorder.choose({"ingest.source": "../more-photos"})
    recorder.run(*recorder.repro)
    recorder.commit(f"Model for {BAD}")
    recorder.scene("bad release", 7, "The gate can't tell: the test photos are in the wrong folders too")
    bad = recorder.publish(BAD)
    if bad == good:
        raise RehearsalError("the second model is the first one")
    recorder.scene(
        "rollback", 7, f"{BAD} is deployed: the smoke test catches it, and {GOOD} comes back by itself"
    )
    recorder.deploy(BAD, expected=1)
    recorder.say(f"and what answers now is {GOOD} again")
    recorder.must_serve(good)
    end = recorder.scene("end", 7, "")
    pages.film_answer(camera, end, recorder.url, CAT, f"{GOOD} serves, and a cat is a cat")
    return recorder.scenes


@contextlib.contextmanager
def _mlflow(recorder: Recorder) -> Iterator[str]:
    """Run MLflow's page on the pipeline's runs; yield its URL."""
    port = free_port()
    store = recorder.environment["MLFLOW_TRACKING_URI"]
    command = ["mlflow", "ui", "--backend-store-uri", store, "--port", str(port), "--workers", "1"]
    url = f"http://127.0.0.1:{port}"
    with running(recorder, command, f"{url}/health"):
        yield url


def _watch(recorder: Recorder, camera: pages.Camera, photos: Path) -> None:
    """Let Prometheus scrape what is deployed, send it traffic, and show the dashboards' queries move."""
    scene = recorder.scene("Prometheus", 6, "")
    folder, port = recorder.folder / "monitoring", free_port()
    config = recorder.project / "monitoring" / "prometheus.yml"
    told = config.read_text("utf-8").replace("app:8080", recorder.url.removeprefix("http://"))
    folder.mkdir()
    (folder / "rules").symlink_to(recorder.project / "monitoring" / "rules")
    # Each second, so that a film needn't be long.
    (folder / "prometheus.yml").write_text(told.replace(": 15s", ": 1s"), encoding="utf-8")
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    url = f"http://127.0.0.1:{port}"
    chosen = plots.panels(recorder.project / "monitoring" / "grafana" / "dashboards", PANELS)
    traffic: tuple[tuple[str, list[str], int, str], ...] = (
        ("normal", [], 24, "Prometheus scrapes it; 20 photos of cats and dogs a second are sent"),
        ("other", ["--other", str(OTHER)], 14, "Then photos of a duck: the label unknown appears"),
        ("bad", [], 14, "Then broken files: refused with 4xx, and no 5xx"),
    )
    with running(recorder, command, f"{url}/-/ready"):
        time.sleep(5)
        page = camera.page()
        for mode, options, seconds, caption in traffic:
            send = [sys.executable, str(ROOT / "scripts" / "traffic.py"), recorder.url, str(photos)]
            until = time.monotonic() + seconds
            with started(recorder, [*send, "--mode", mode, *options, "--seconds", "inf"]):
                while time.monotonic() < until:
                    began = time.monotonic()
                    pages.plot(camera, scene, page, chosen, url, caption)
                    time.sleep(max(0.0, began + pages.PLOT_EVERY_S - time.monotonic()))
        page.close()
