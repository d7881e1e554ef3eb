"""The rehearsal of the loop, in front of the camera."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import expect

from scripts.common.process import ROOT, free_port, wait_until_ready
from scripts.filming.camera import Camera
from scripts.loop import Loop
from scripts.looping.photos import Parts
from scripts.looping.watching import Watch
from scripts.rehearsal import RehearsalError, own_address
from scripts.standins.github import GitHub

_QUIET = {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore", "NO_COLOR": "1", "GIT_PAGER": "cat"}
_QUIET |= {"TQDM_DISABLE": "1", "MLFLOW_LOGGING_LEVEL": "WARNING", "DO_NOT_TRACK": "1", "LOGNAME": "demo"}
_CAT, _DOG, _DUCK = (ROOT / "tests" / "photos" / name for name in ("cat.jpg", "dog.jpg", "other/duck.jpg"))
_SCENE_S = 15.0
"""The longest that the output of one command is shown."""
_PER_MODEL = (
    'sum by (version) (rate(http_requests_total{route="/predict"}[12s])'
    " * on (job, instance) group_left (version) model_info)"
)
_REVIEWED = 4


class FilmedLoop(Loop):
    """Shows every command and its output in the filmed terminal, and the pages of the servers.

    The prompt shows the minutes and seconds since the start, so the viewer sees how much was cut.
    """

    name = "cats-vs-dogs-recording"
    repro = ("dvc", "repro")

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str],
        parts: Parts,
        github: GitHub,
        proxy_image: str,
        camera: Camera,
    ) -> None:
        """Take what a rehearsal takes, and the camera."""
        super().__init__(folder, {**_QUIET, **env}, parts, github, proxy_image)
        self._camera = camera
        # Names of folders and addresses of this machine do not matter to the viewer.
        self._aliases = {str(folder): "~", sys.prefix: "~/.venv", str(ROOT): "~", str(Path.home()): "~"}
        if (address := own_address()) != "127.0.0.1":
            self._aliases[address] = "this-machine"

    def copy_repository(self) -> None:
        """Show the page with the embedded model, then an empty terminal; copy the repository."""
        self._show_page()
        self._camera.show_terminal()
        self._camera.caption("The whole way, rehearsed on one machine: only GitHub is a stand-in")
        super().copy_repository()

    def say(self, text: str) -> None:
        """Show a caption above an empty terminal."""
        self._camera.hold(2)
        self._camera.show_terminal()
        self._camera.caption(text)
        self._camera.hold(1)

    def execute(self, command: tuple[str, ...], env: Mapping[str, str]) -> int:
        """Show a command and its output; return its exit code."""
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        self._write(f"[{minutes:02d}:{seconds:02d}] $ {shlex.join(command)}", 0.8)
        shown_until = self._camera.seconds + _SCENE_S
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, cwd=self.project, env=env, text=True, **output) as process:  # type: ignore[call-overload]  # noqa: S603
            for number, line in enumerate(process.stdout):
                # Long output goes by quickly; what is longer than a scene is written without being shown.
                rest = max(0.0, shown_until - self._camera.seconds)
                self._write(line.rstrip("\n"), min(rest, 0.15 if number < 40 else 0.02))
        self._camera.hold(0.5)
        return int(process.returncode)

    def _write(self, line: str, seconds: float) -> None:
        for private, alias in self._aliases.items():
            line = line.replace(private, alias)
        print(line, flush=True)
        self._camera.write(line, seconds)

    def _show_page(self) -> None:
        camera, page, url = self._camera, self._camera.page, f"http://127.0.0.1:{free_port()}"
        answers = page.locator(".photo .label:visible")
        service = {"PORT": url.rpartition(":")[2], "COLLECT_TO": ""}
        with self.background(sys.executable, "-m", "app", ready=f"{url}/ready", folder=ROOT, env=service):
            page.goto(url)
            camera.caption("make serve: the service with its embedded model")
            camera.hold(2)
            for number, (photo, text) in enumerate(
                ((_CAT, "A photo of a cat, and the answer"), (_DOG, "A dog"), (_DUCK, "A duck is neither")), 1
            ):
                page.locator("#files").set_input_files(photo)
                expect(answers).to_have_count(number, timeout=20_000)
                page.mouse.wheel(0, 200)
                camera.caption(text)
                camera.hold(3)
                if number == 1:
                    page.screencast.show_actions(cursor="pointer", style={"title": "display: none"})
                    page.locator(".photo .frame").first.hover()
                    camera.caption("With the mouse over it: the evidence for the answer")
                    camera.hold(3)
                    camera.picture("recording.png", play_button=True)
                    page.screencast.hide_actions()
            page.goto("about:blank")

    def show_runs(self) -> None:
        """Show the last run and the registered model on MLflow's pages."""
        from mlflow import MlflowClient

        store, url = self.env["MLFLOW_TRACKING_URI"], f"http://127.0.0.1:{free_port()}"
        client, page = MlflowClient(store), self._camera.page
        (experiment,) = client.search_experiments(filter_string="name = 'cats-vs-dogs'")
        runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
        (registered,) = client.search_registered_models()
        run = f"experiments/{experiment.experiment_id}/runs/{runs[0].info.run_id}"
        server = f"mlflow ui --backend-store-uri {store} --port {url.rpartition(':')[2]} --workers 1".split()
        with self.background(*server, ready=f"{url}/health"):
            for path, text, caption in (
                (run, "test_accuracy", "MLflow: metrics of the training run"),
                (f"models/{registered.name}", "champion", "MLflow's registry: this version is the champion"),
            ):
                page.goto(f"{url}/#/{path}")
                page.get_by_text(text).first.wait_for(timeout=120_000)
                page.wait_for_timeout(2000)  # until the rest of the page is there
                self._camera.caption(caption)
                self._camera.hold(4)
        self._camera.show_terminal()
        self._camera.caption("The gate accepts the model; it is published, deployed and smoke-tested")

    def show_alert(self, watch: Watch) -> None:
        """Show the alert that fires, and the drift that it is about."""
        self._open(watch, "alerts")
        self._camera.page.get_by_text("ModelDrift").first.wait_for(timeout=60_000)
        self._camera.caption("Prometheus: the alert ModelDrift fires, and GitHub is asked to train again")
        self._camera.hold(4)
        self._graph(watch, "model:drift:1h", "How far each statistic is from that of the training photos")

    def show_review(self, url: str, labels: Mapping[str, str]) -> None:
        """Decide about the first photos on the review's page, with the keyboard."""
        page = self._camera.page
        page.goto(url)
        self._camera.caption("Photos kept with consent: somebody says what they show, with one key each")
        for _ in range(_REVIEWED):
            page.locator("#main[data-state=ready]").wait_for(timeout=60_000)
            self._camera.hold(1.5)
            shown = page.locator("#photos > div").first.get_attribute("data-id") or ""
            page.get_by_role("button", name=labels[shown]).first.click()
        page.locator("#main[data-state=ready]").wait_for(timeout=60_000)
        self._camera.hold(1)
        self._camera.show_terminal()
        self._camera.caption("The next model learns from these photos too, passes the gate, and is released")

    def show_canary(self, watch: Watch, text: str) -> None:
        """Show how many answers each model gives; keep a picture of the terminal with the canary's report."""
        self._camera.picture("terminal.png", full_page=True)
        self._graph(watch, _PER_MODEL, text)

    def show_timeline(self, page: Path) -> None:
        """Show the page that the rehearsal has written."""
        self._camera.page.goto(page.as_uri())
        self._camera.caption("What the rehearsal has measured: accuracy on the new photos, before and after")
        self._camera.hold(5)
        self._camera.page.locator("#traffic").evaluate("section => section.scrollIntoView()")
        self._camera.hold(5)

    def _open(self, watch: Watch, path: str) -> None:
        response = self._camera.page.goto(f"{watch.url}/{path}")
        if response and response.status == 404:  # Debian's package has only the older pages
            self._camera.page.goto(f"{watch.url}/classic/{path}")

    def _graph(self, watch: Watch, query: str, caption: str) -> None:
        page = self._camera.page
        self._open(watch, f"graph?g0.expr={quote(query)}&g0.tab=0&g0.range_input=3m&g0.step_input=1")
        page.evaluate("document.body.style.zoom = 0.75")
        page.wait_for_timeout(2000)
        self._camera.caption(caption)
        self._camera.hold(6)

    @contextlib.contextmanager
    def background(
        self, *command: str, ready: str = "", folder: Path | None = None, env: Mapping[str, str] | None = None
    ) -> Iterator[None]:
        """Run a program during the block; wait first until it answers at the URL `ready`.

        Args:
            command: the program and its arguments.
            ready: URL.
            folder: where to run it; default: the copy of the repository.
            env: variables besides those of all commands.

        Raises:
            ProcessError: it does not answer in time.
            RehearsalError: it has ended by itself.
        """
        with (self.folder / "background.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                command, cwd=folder or self.project, env=self.env | dict(env or {}), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        try:
            if ready:
                wait_until_ready(process, ready)
            yield
            if process.poll() is not None:
                raise RehearsalError(f"ended with {process.returncode}: {shlex.join(command)}")
        finally:
            # The whole group, because servers have worker processes.
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(process.pid, number)
                    process.wait(20)
