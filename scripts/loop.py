"""Rehearse the loop from live photos to a better model on this machine, with canaries.

A model learns from everyday photos, is released and deployed. Then a camera that hangs upside down sends
photos, of which the model knows fewer: an alert fires, and GitHub is asked to train again. The service has
kept such photos. They are reviewed, the next model learns from them too, and a canary gives it 10 % of the
traffic, then 50 %, then all. After that, a model whose classes have changed names must be stopped at 10 %.

Everything is real except GitHub, for which a local server stands in: the service in its container, the
pipeline, Prometheus and Alertmanager with the rules of monitoring/ (an hour takes 10 s), HAProxy. The
commands run in a temporary copy of the repository. reports/loop.html shows what happened.

It needs docker or podman (the environment variable CONTAINER names another command), and the programs
prometheus, prometheus-alertmanager and haproxy.

Exit code 0: every step ended as it should.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import requests
from numpy.typing import NDArray

from ml.evaluation.compare import BETTER, compare_hits
from monitoring.client import PrometheusError
from scripts.common import arguments
from scripts.common.process import ROOT, ProcessError
from scripts.common.web import RequestError
from scripts.looping import photos
from scripts.looping.photos import Parts
from scripts.looping.proxy_image import haproxy_image
from scripts.looping.reviewer import ReviewError, review
from scripts.looping.sender import Sender
from scripts.looping.swapped import serving, swap
from scripts.looping.timeline import CONFIDENCE, Accuracy, Timeline, write_page
from scripts.looping.watching import Watch, watching
from scripts.rehearsal import SMALL, Rehearsal, RehearsalError, own_address, prepared
from scripts.standins.github import GitHub

ERRORS = (
    RehearsalError, ReviewError, ProcessError, PrometheusError, RequestError, requests.RequestException,
)  # fmt: skip
"""What `Loop.rehearse` raises; the messages are for the user."""
_PAGE = ROOT / "reports" / "loop.html"
SIZES = (200, 60, 150, 200)
"""Photos per class: to learn from, everyday ones, those upside down, and those on which models are judged."""
_COLLECTED = 400
"""Photos that are enough to train a model."""
_RATE = 20.0  # photos per second
_RECIPE = {"recipes.efficientnet_lite0.epochs": "2"}
_CALM_S, _HANG_S = 20.0, 300.0
_CANARY = ("--canary", "10,50", "--minutes", "1", "--look", "3", "--least", "60")
_REJECTED = 3
_STORE = "/cache/collected"  # in the container
_SETTINGS = {
    "COLLECT_TO": _STORE,
    "COLLECT_UNSURE": "0.9",
    "COLLECT_PHOTOS_PER_CLIENT": "10000",
    "FEEDBACK_SECRET": "of-both-versions-in-the-rehearsal",
}
"""Settings of the service."""


class Loop(Rehearsal):
    """Runs the commands that people and workflows run, in a copy of the repository.

    Args:
        folder: working folder.
        env: of the commands, see `prepared`.
        parts: the photos.
        github: the stand-in.
        proxy_image: of HAProxy.
    """

    name = "cats-vs-dogs-loop"

    def __init__(
        self, folder: Path, env: Mapping[str, str], parts: Parts, github: GitHub, proxy_image: str
    ) -> None:
        super().__init__(folder, {**env, **_SETTINGS})
        self._parts, self._github, self._proxy_image = parts, github, proxy_image
        self._timeline, self._sender = Timeline(), Sender(self.url)
        self._right = np.empty(0, bool)
        self._both = parts.everyday + parts.turned[: len(parts.everyday)]

    def rehearse(self) -> None:
        """Run all steps; raises one of `ERRORS`."""
        with watching(self.folder / "watching", self.env) as watch:
            since = time.time()
            try:
                self._first_model(watch)
                self._drift(watch)
                self._learn()
                self._canary(watch)
                self._bad_canary(watch)
                self._calm_again(watch)
                self._simulated_canaries()
            finally:
                write_page(self._timeline, watch.url, since, _PAGE)
                print(_PAGE)
        self.show_timeline(_PAGE)

    def show_runs(self) -> None:
        """Show the training run; like all that follow, does nothing unless the rehearsal is filmed."""

    def show_alert(self, watch: Watch) -> None:
        """Show the alert that fires, and why."""

    def show_review(self, url: str, labels: Mapping[str, str]) -> None:
        """Show the review's page, and decide about some photos."""

    def show_canary(self, watch: Watch, text: str) -> None:
        """Show which model has answered how many photos."""

    def show_timeline(self, page: Path) -> None:
        """Show the page that the rehearsal has written."""

    def _first_model(self, watch: Watch) -> None:
        self.copy_repository()
        photos.write(self.folder / "everyday", self._parts.known)
        self.set_params(SMALL | _RECIPE | {"ingest.source": "../everyday"})
        self.say("Train, release and deploy a model that has seen everyday photos")
        self._train("v1.0.0")
        self.show_runs()
        self.publish("v1.0.0")
        self.run("make", "image", f"IMAGE={self.name}:now")
        self._deploy(self.release("v1.0.0"), watch)
        self._note("v1.0.0 serves")
        with self._sender.sending(self._parts.everyday, _RATE):
            self._wait(lambda: watch.value("model:photos:1h") >= 200, "the first photos")
            calm_until = time.monotonic() + _CALM_S
            while time.monotonic() < calm_until:
                if watch.firing("ModelDrift"):
                    raise RehearsalError("ModelDrift fires on everyday photos")
                time.sleep(1)
        self._note("everyday photos: no alert")

    def _drift(self, watch: Watch) -> None:
        self.say("Photos of a camera that hangs upside down arrive")
        self._note("photos arrive upside down", marked=True)
        with self._sender.sending(self._parts.turned, _RATE):
            self._wait(lambda: watch.firing("ModelDrift"), "ModelDrift")
            self._note("the alert ModelDrift fires")
            self.show_alert(watch)
            self._wait(lambda: bool(self._github.dispatched), "the request to train again")
            event, payload = self._github.dispatched[0]
            self._note(
                f"GitHub is asked for the workflow of {event!r}, because of {', '.join(payload['alerts'])}"
            )
            collected = "sum(photos_collected_total)"
            self._wait(lambda: watch.value(collected) >= _COLLECTED, "collected photos")
        self._right = self._judge("v1.0.0")

    def _learn(self) -> None:
        store = self.folder / "collected"
        self.say("Review what the service has collected, and train again")
        self.run(self.env["CONTAINER"], "cp", f"{self.name}:{_STORE}", str(store))
        self.run("python", "-m", "ml", "collected", str(store))
        decisions = review(self.project, store, self._sender.labels, self.env, self.show_review)
        self.run("python", "-m", "ml", "review", str(store), "--export")
        self.run("dvc", "add", "--quiet", "collected")
        self._note(f"collected photos are reviewed, in {decisions} decisions")
        self._train("v1.1.0")
        self.publish("v1.1.0")
        self._note("v1.1.0 is trained, has passed the gate, and is released")

    def _canary(self, watch: Watch) -> None:
        self.say("Give v1.1.0 10 % of the traffic, then 50 %, then all")
        with self._sender.sending(self._both, _RATE):
            self._note("v1.1.0 gets 10 %, then 50 % of the photos", marked=True)
            self._deploy(self.release("v1.1.0"), watch, *_CANARY)
            self._note("v1.1.0 is promoted", marked=True)
            self.show_canary(watch, "The canary had 10 %, then 50 %, and now has all photos")
        change = compare_hits(self._judge("v1.1.0"), self._right, CONFIDENCE)
        self._note(f"v1.1.0 compared with v1.0.0 on these photos: {change}")
        if change.verdict != BETTER:
            raise RehearsalError("v1.1.0 is not better on photos that are upside down")

    def _bad_canary(self, watch: Watch) -> None:
        self.say(
            "A model with other names of its classes passes the health checks, and is stopped by the canary"
        )
        folder = self.folder / "swapped"
        folder.mkdir()
        swap(self.project / "models" / "model.pt", folder / "model.pt")
        health = folder / "health.sh"  # the smoke test, which sends photos, would reject it before the canary
        health.write_text('exec curl --silent --fail --output /dev/null "$1/ready"\n', "utf-8")
        with (
            serving(folder, own_address()) as url,
            self._sender.sending(self._both, _RATE),
        ):
            self._note("a model with swapped classes gets 10 % of the photos", marked=True)
            model = ("--model-url", f"{url}/model.pt", "--smoke-test", str(health))
            self._deploy(model, watch, *_CANARY, expected=_REJECTED)
            self._note("it is rejected; v1.1.0 has all photos again", marked=True)
            self.show_canary(watch, "The model with swapped classes is taken back at 10 %")
        report = self._timeline.reports[-1]["text"]
        if "**10 % of the traffic**" not in report or "**50 % of the traffic**" in report:
            raise RehearsalError("it was not stopped at 10 %")
        self._judge("v1.1.0, again")

    def _calm_again(self, watch: Watch) -> None:
        with self._sender.sending(self._both, _RATE):
            self._wait(lambda: not watch.firing("ModelDrift"), "the end of ModelDrift")
        self._note("ModelDrift is over, while such photos still arrive")
        sender = self._sender
        if sender.failures:
            raise RehearsalError(f"of {sender.sent} photos, some were not answered: {dict(sender.failures)}")
        self._note(f"all {sender.sent:,} photos were answered, the slowest after {sender.slowest_s:.1f} s")

    def _simulated_canaries(self) -> None:
        self.say("Simulate 20 canaries of each kind")
        self.run("python", "-m", "pytest", "-q", "--no-header", "tests/deploy/canary/test_judge.py")
        self._note("simulated canaries: tests/deploy/canary/test_judge.py passes")

    def _train(self, tag: str) -> None:
        self.run(*self.repro)
        self.commit(f"Model for {tag}")

    def _deploy(self, model: tuple[str, ...], watch: Watch, *options: str, expected: int = 0) -> None:
        report = self.folder / "canary.md"
        report.unlink(missing_ok=True)
        port = self.url.rpartition(":")[2]
        canary = ("--prometheus", watch.url, "--report", str(report)) if options else ()
        try:
            self.run(
                *("python", "-m", "deploy", "docker", "--name", self.name, "--port", port),
                *("--image", f"{self.name}:now", *model),
                *(f"--env={name}" for name in _SETTINGS),
                *("--proxy-image", self._proxy_image, "--targets", str(watch.targets)),
                *canary,
                *options,
                expected=expected,
            )
        finally:
            if canary and report.exists():
                title = report.read_text("utf-8").partition("\n")[0].lstrip("# ")
                self._timeline.reports.append({"title": title, "text": report.read_text("utf-8")})

    def _judge(self, tag: str) -> NDArray[np.bool_]:
        hits = self._sender.judge(self._parts.judged)
        right, count = int(hits.sum()), len(hits)
        one = Accuracy(tag, right, count)
        self._timeline.accuracies.append(one)
        self._note(
            f"{tag}: {right} of {count} photos upside down are right ({one.low:.1%} to {one.high:.1%})"
        )
        return hits

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + _HANG_S
        while not condition():
            if time.monotonic() > until:
                raise RehearsalError(f"waited {_HANG_S:.0f} s for {what}")
            time.sleep(0.5)

    def _note(self, text: str, marked: bool = False) -> None:
        print(f"--- {time.monotonic() - self.started:4.0f} s  {text}", flush=True)
        self._timeline.note(text, marked)


def main() -> int:
    """Rehearse; return the exit code."""
    parser = arguments.parser("loop", __doc__, "--photos photos.zip")
    parser.add_argument(
        "--photos",
        type=Path,
        help=f"a folder or .zip with a subfolder of at least {sum(SIZES)} photos per class; default: parts "
        "of the two photos in tests/photos",
    )
    options = parser.parse_args()
    try:
        parts = photos.parts(options.photos, SIZES)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory(prefix="loop-") as folder:
        try:
            with prepared(Loop.name) as (env, github), haproxy_image(env["CONTAINER"]) as image:
                Loop(Path(folder), env, parts, github, image).rehearse()
        except ERRORS as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
