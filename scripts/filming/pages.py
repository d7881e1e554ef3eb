"""Pictures of real pages, taken while what they show is running."""

import json
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect
from reporting.prometheus import Period

from filming import plots
from filming.film import Scene, Shot

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
WIDTH, HEIGHT = 1240, 560
"""Of a page in the video, in its pixels."""
_ZOOM, _LARGER = 1.2, 1.35
PLOT_EVERY_S, _PLOT_S = 2.0, 0.4
"""How often the plots are drawn, and how long each stays."""
_MLFLOW_S = 6
"""Until its page has everything."""
_MLFLOW_SETTINGS = """localStorage.setItem("mlflow.workflowType_v1", '"machine_learning"');
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");"""
_MLFLOW_COLUMNS = """for (const name of Object.keys(localStorage)) {
  if (!/ExperimentPage-.*-ReactComponentState$/.test(name)) continue;
  const metrics = ["val_accuracy", "test_accuracy", "test_log_loss"].map((each) => `metrics.\\`${each}\\``);
  localStorage.setItem(name, JSON.stringify({ ...JSON.parse(localStorage[name]), selectedColumns: metrics }));
}"""
_SPAN_S = 60
"""What they show."""


class Camera:
    """Takes pictures for a film.

    Args:
        browser: that shows the pages.
        folder: where the pictures go.
    """

    def __init__(self, browser: Browser, folder: Path) -> None:
        self._browser, self._folder = browser, folder
        self._taken = 0

    def page(self, zoom: float = _ZOOM) -> Page:
        """Return a new page, enlarged."""
        return self._browser.new_page(
            viewport={"width": round(WIDTH / zoom), "height": round(HEIGHT / zoom)},
            device_scale_factor=zoom,
            reduced_motion="reduce",
            color_scheme="light",
        )

    def take(
        self, scene: Scene, page: Page, caption: str, seconds: float, url: str = "", speed: int = 1,
        pointer: str = "",
    ) -> None:  # fmt: skip
        """Add a picture to a scene.

        Args:
            scene: that it belongs to.
            page: as it is now.
            caption: what it shows.
            seconds: how long.
            url: to show instead of the page's.
            speed: how many times as fast as it was.
            pointer: selector of what the mouse is over.
        """
        self._taken += 1
        name = f"{self._taken:03d}.png"
        page.screenshot(path=self._folder / name)
        place = None
        if pointer and (box := page.locator(pointer).first.bounding_box()):
            zoom = float(page.evaluate("devicePixelRatio"))
            place = (zoom * (box["x"] + box["width"] * 0.62), zoom * (box["y"] + box["height"] * 0.55))
        scene.shots.append(Shot(name, url or page.url, caption, seconds, speed, place))


def film_mlflow(camera: Camera, scene: Scene, url: str, experiment: str) -> None:
    """Show the experiment, its last run, and the registered model."""
    told = _asked(f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name={experiment}")
    number = told["experiment"]["experiment_id"]
    search = {"experiment_ids": [number], "max_results": 1, "order_by": ["attributes.start_time DESC"]}
    run = _asked(f"{url}/api/2.0/mlflow/runs/search", search)["runs"][0]["info"]["run_id"]
    page = camera.page(1.0)
    page.add_init_script(_MLFLOW_SETTINGS)
    _open(page, f"{url}/#/experiments/{number}/runs")
    page.evaluate(_MLFLOW_COLUMNS)
    page.reload()
    page.wait_for_timeout(_MLFLOW_S * 1000)
    camera.take(scene, page, "MLflow: the experiment, with the run of just now", 4.0)
    _open(page, f"{url}/#/experiments/{number}/runs/{run}")
    camera.take(scene, page, "The run: its figures, and the commit it is of", 3.5)
    page.get_by_placeholder("Search metrics").fill("test_")
    page.wait_for_timeout(1000)
    camera.take(scene, page, "What the test photos say, with intervals: eight photos say little", 4.5)
    _open(page, f"{url}/#/models/{experiment}")
    camera.take(scene, page, "The registry: this version is champion", 4.0)
    page.close()


def _open(page: Page, url: str) -> None:
    """Go to a page of MLflow's. It never stops asking its server, so nothing says that all of it is there."""
    page.goto(url)
    page.wait_for_timeout(_MLFLOW_S * 1000)


def film_service(camera: Camera, scene: Scene, url: str, cat: Path, duck: Path) -> None:
    """Give the page of the service a cat, ask why, and give it a duck."""
    page = camera.page(_LARGER)
    page.goto(url, wait_until="networkidle")
    camera.take(scene, page, "The page of the container that was just deployed", 2.5)
    answers = page.locator(".photo .label:visible")
    page.locator("#files").set_input_files(cat)
    expect(answers).to_have_count(1, timeout=20_000)
    card = page.locator(".photo").first
    _centre(page, ".photo")
    camera.take(scene, page, "A photo of a cat, and what the released model says", 3.5)
    card.locator(".frame").hover()
    page.wait_for_timeout(400)
    camera.take(
        scene, page, "Why? With the mouse over it: the evidence for its answer", 5.0, pointer=".photo .frame"
    )
    page.mouse.move(5, 5)
    page.locator("#files").set_input_files(duck)
    expect(answers).to_have_count(2, timeout=20_000)
    page.locator(".photo", has_text=duck.name).scroll_into_view_if_needed()
    page.wait_for_timeout(400)
    camera.take(scene, page, "A duck: neither of its classes", 4.0)
    page.close()


def film_answer(camera: Camera, scene: Scene, url: str, photo: Path, caption: str) -> None:
    """Give the page a photo."""
    page = camera.page(_LARGER)
    page.goto(url)
    page.locator("#files").set_input_files(photo)
    expect(page.locator(".photo .label:visible")).to_have_count(1, timeout=20_000)
    _centre(page, ".photo")
    camera.take(scene, page, caption, 4.0)
    page.close()


def plot(camera: Camera, scene: Scene, page: Page, chosen: list[plots.Panel], url: str, caption: str) -> None:
    """Show what the panels' queries give now."""
    now = int(float(_asked(f"{url}/api/v1/query?query=time()")["data"]["result"][0]))
    page.set_content(plots.page(chosen, url, Period(now - _SPAN_S, now, 1)))
    camera.take(scene, page, caption, _PLOT_S, f"{url}/api/v1/query_range", round(PLOT_EVERY_S / _PLOT_S))


def _centre(page: Page, selector: str) -> None:
    page.locator(selector).first.evaluate("element => element.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(500)


def _asked(url: str, body: object = None) -> Any:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)
