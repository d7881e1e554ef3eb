"""`make monitoring-test`: real problems of each kind reach Alertmanager, and nothing else does."""

import os
import random
import re
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from ml.model.image import read
from ml.model.reference import brightness, describe
from tests.conftest import BLUE, RED, SIZE, colour_graph, coloured, encode, needs
from tests.helpers.beside import SHARED
from tests.helpers.monitoring_stack import INTERVAL_S, Stack, faster, scaled, stack
from tests.helpers.monitoring_tools import query
from tests.helpers.waiting import HANG_S, until

ZIP = SHARED / "data" / "cats-vs-dogs.zip"
REAL = bool(os.environ.get("REAL_PHOTOS")) and ZIP.exists()

_SILENT_S = 4
OF_SLOW_MACHINES = {"PredictSlow", "Saturated"}
"""Alerts that a slow machine raises rightly; this test is about the others."""
NO_DRIFT = "max(model:drift:1h) <= 0.25 and max(model:drift:1d) <= 0.25"
NO_REJECTIONS = "max(predict:refusal_ratio:rate5m) == 0"
LATE_SCRAPES = f"max(max_over_time(scrape_duration_seconds{{job='cats-vs-dogs'}}[10s])) > {0.9 * INTERVAL_S}"
"""On a slow machine: the service answers, but after more than half a second, which counts as down."""


def test_the_substitution_shortens_every_duration_and_keeps_every_name():
    rules = """
      - record: predict:requests:rate1h
        expr: rate(x[1h]) / y offset 1h > 14.4 * 0.005
        for: 2m
    """
    assert faster(rules) == (
        rules.replace("[1h]", "[20000ms]").replace("offset 1h", "offset 20000ms").replace("2m", "667ms")
    )
    assert faster("group_wait: 30s") == "group_wait: 167ms"
    assert faster("scrape_interval: 15s") == "scrape_interval: 500ms"


def drawn(folder: Path, make_model: Callable[..., Path]) -> dict[str, str]:
    """Draw photos, and make a model whose reference statistics are theirs."""
    seen = []
    for label, colour in (("red", RED), ("blue", BLUE)):
        (folder / label).mkdir(parents=True)
        for seed in range(30):
            photo = encode(coloured(colour, 160, 120, seed))
            (folder / label / f"{seed}.jpg").write_bytes(photo)
            seen.append(read(photo, SIZE, "center_crop"))
    inputs = {
        "brightness": [brightness(photo.pixels) for photo in seen],
        "aspect_ratio": [photo.width / photo.height for photo in seen],
        "short_side_pixels": [min(photo.width, photo.height) for photo in seen],
    }
    reference = describe(("red", "blue"), inputs, [1.0] * 60, [0] * 30 + [1] * 30)
    # Weights so large that its confidence on dark photos is the same: only brightness drifts.
    model = make_model(graph=colour_graph(weight=10), reference=reference, metrics={"accuracy_low": 0.95})
    return {"MODEL_URL": model.as_uri()}


def real(folder: Path) -> dict[str, str]:
    """Extract 300 photos of cats and dogs for the default model."""
    with zipfile.ZipFile(ZIP) as archive:
        for label in ("cat", "dog"):
            names = sorted(
                name for name in archive.namelist() if name.startswith(f"{label}/") and ".jpg" in name
            )
            for name in random.Random(0).sample(names, 150):
                archive.extract(name, folder)
    return {}


@needs("prometheus", "prometheus-alertmanager")
def test_each_problem_raises_its_alert_and_no_other(tmp_path, make_model):
    photos = tmp_path / "photos"
    settings = real(photos) if REAL else drawn(photos, make_model)
    # Room for the seconds in which a slow machine does nothing, and too little for the bursts.
    with stack(tmp_path, MAX_CONCURRENCY="1", MAX_QUEUE="256", REQUEST_TIMEOUT_S="60", **settings) as running:
        story = Story(running)
        most = half_of_what_is_possible(running, photos)
        with running.traffic(photos, rate=min(20, most)):
            story.stays_calm(12)
        with running.traffic(photos, "dark", rate=min(15, most)):
            alerts = story.wait_for("ModelDrift", scaled("1h") + scaled("10m"))
        statistics = {alert["statistic"] for alert in alerts}
        assert statistics == {"brightness"}
        with running.traffic(photos, rate=min(25, most)):  # so that dark photos are soon a small share again
            story.wait_until_over("ModelDrift", scaled("1d"), NO_DRIFT)
        with running.traffic(photos, "burst", rate=200):
            story.wait_for("PredictRefusing", scaled("1h") + scaled("2m"))
        # The burst opens a ticket, too, from an hour after it to six hours: here from 20 s to two minutes.
        story.may_fire("PredictRefusing", "ticket")
        with running.traffic(photos, rate=min(15, most)):
            story.wait_until_over("PredictRefusing", scaled("30m"), NO_REJECTIONS)
        running.service.process.terminate()
        story.wait_for("ServiceDown", scaled("2m"))
        check_notifications(running)


def half_of_what_is_possible(running: Stack, folder: Path) -> float:
    """Return a rate of photos per second; more of them would only make a slow machine refuse some."""
    photos = [photo.read_bytes() for photo in list(folder.rglob("*.jpg"))[:20]]
    started = time.monotonic()
    assert {running.service.predict(photo)[0] for photo in photos} == {200}
    return len(photos) / (time.monotonic() - started) / 2


def check_notifications(running: Stack) -> None:
    """Receivers got the alerts with their links, and the dead man's switch got Watchdog again and again."""
    until(lambda: running.notified("page") and len(running.notified("watchdog")) > 10)
    assert {alert["labels"]["alertname"] for alert in running.notified("watchdog")} == {"Watchdog"}
    until(lambda: any(alert["labels"]["alertname"] == "ServiceDown" for alert in running.notified("page")))
    told = {alert["labels"]["alertname"]: alert["annotations"] for alert in running.notified("page")}
    told |= {alert["labels"]["alertname"]: alert["annotations"] for alert in running.notified("ticket")}
    assert {"PredictRefusing", "ServiceDown", "ModelDrift"} <= set(told)
    boards = {"PredictRefusing": "service", "ServiceDown": "service", "ModelDrift": "model"}
    for name, board in boards.items():
        link = f"http://localhost:3000/d/cats-vs-dogs-{board}?var-job=cats-vs-dogs"
        assert told[name]["dashboard_url"] == link
        assert re.fullmatch(
            rf"https://github\.com/[^/]+/.*/RUNBOOK\.md#{name.lower()}", told[name]["runbook_url"]
        )


class Story:
    """Prints what happens and when; fails if an unexpected alert fires."""

    def __init__(self, running: Stack) -> None:
        self._running, self._started = running, time.monotonic()
        self._later: set[tuple[str, str]] = set()
        self._print("the stack runs")

    def _print(self, event: str) -> None:
        print(f"{time.monotonic() - self._started:6.1f} s  {event}", flush=True)

    def stays_calm(self, seconds: float) -> None:
        """Check that no alert fires for a time, and until enough photos were answered to detect drift."""
        started, enough = time.monotonic(), 200
        while time.monotonic() < started + seconds or self._photos() < enough:
            assert self._alerts() == []
            assert time.monotonic() < started + seconds + HANG_S, self._state()
            time.sleep(0.1)
        self._print(f"normal traffic: no alert, {self._photos():.0f} photos answered")

    def may_fire(self, name: str, severity: str) -> None:
        """From now on, such an alert is no surprise, whenever it comes."""
        self._later.add((name, severity))

    def _alerts(self) -> list[dict[str, str]]:
        late = query(self._running.prometheus, LATE_SCRAPES)
        excused = OF_SLOW_MACHINES | ({"ServiceDown"} if late else set())
        return [
            alert
            for alert in self._running.alerts()
            if alert["alertname"] not in excused
            and (alert["alertname"], alert["severity"]) not in self._later
        ]

    def _photos(self) -> float:
        return sum(float(series["value"][1]) for series in query(self._running.prometheus, "model:photos:1d"))

    def wait_for(self, name: str, within_s: float) -> list[dict[str, str]]:
        """Wait for an alert; no other fires before it or in the next two seconds. Return its labels.

        `within_s` is the longest time that the rule takes, from a scrape to an evaluation. It is printed
        beside the time that it took.
        """
        within_s += 2 * INTERVAL_S
        started, first = time.monotonic(), 0.0
        while not first or time.monotonic() < first + 2:
            alerts = self._alerts()
            assert {alert["alertname"] for alert in alerts} <= {name}
            if alerts and not first:
                first = time.monotonic()
            assert first or time.monotonic() < started + within_s + HANG_S, self._state()
            time.sleep(0.1)
        details = ", ".join(sorted(alert.get("statistic", "") for alert in alerts)).strip(", ")
        took = f"{first - started:.1f} s; its rule takes {within_s:.1f} s at most"
        self._print(f"{name} {f'({details}) ' if details else ''}and nothing else, after {took}")
        return alerts

    def wait_until_over(self, name: str, within_s: float, over: str) -> None:
        """Wait until an alert has ended; no other fires. The rules take `within_s` at most.

        Late scrapes interrupt an alert too, for seconds on a busy machine. So it is over once it has been
        silent for some seconds in which the query `over` had a result.
        """
        started = silent = time.monotonic()
        while time.monotonic() < silent + _SILENT_S:
            alerts = self._alerts()
            if alerts or not query(self._running.prometheus, over):
                silent = time.monotonic()
            assert {alert["alertname"] for alert in alerts} <= {name}
            assert silent < started + within_s + HANG_S, self._state()
            time.sleep(0.1)
        self._print(f"{name} is over")

    def _state(self) -> str:
        shown = query(self._running.prometheus, '{__name__=~"ALERTS|predict:.*|model:.*|up"}')
        return "\n".join(f"{series['metric']} {series['value'][1]}" for series in shown)
