"""A rehearsal in front of the camera."""

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
from scripts.rehearsal import Rehearsal, RehearsalError, own_address

_QUIET = {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore", "NO_COLOR": "1", "GIT_PAGER": "cat"}
_QUIET |= {"TQDM_DISABLE": "1", "MLFLOW_LOGGING_LEVEL": "WARNING", "DO_NOT_TRACK": "1", "LOGNAME": "demo"}
_CAT, _DUCK = (ROOT / "tests" / "photos" / name for name in ("cat.jpg", "other/duck.jpg"))
_PER_LABEL = "sum by (label) (rate(predictions_total[10s]))"
_PER_STATUS = "sum by (status) (rate(http_requests_total[10s]))"
_TRAFFIC = (
    ("normal", _PER_LABEL, "Prometheus: 20 photos of cats and dogs per second"),
    ("other", _PER_LABEL, "Then photos of ducks: the service answers unknown"),
    ("bad", _PER_STATUS, "Then broken files: the service answers 4xx, never 5xx"),
)
"""Mode of the traffic, query, caption."""


class FilmedRehearsal(Rehearsal):
    """Shows every command and its output in the filmed terminal, and the pages of the servers.

    The prompt shows the minutes and seconds since the start, so the viewer sees how much was cut.
    """

    name = "cats-vs-dogs-recording"
    repro = ("dvc", "repro")

    def __init__(self, folder: Path, env: Mapping[str, str], camera: Camera) -> None:
        """Take what a rehearsal takes, and the camera."""
        super().__init__(folder, {**_QUIET, **env})
        self._camera = camera
        # Names of folders and addresses of this machine do not matter to the viewer.
        self._aliases = {str(folder): "~", sys.prefix: "~/.venv", str(ROOT): "~", str(Path.home()): "~"}
        if (address := own_address()) != "127.0.0.1":
            self._aliases[address] = "this-machine"

    def copy_repository(self) -> None:
        """Show an empty terminal, and copy the repository."""
        self._camera.show_terminal()
        self._camera.caption("A rehearsal on one machine: a release, a deployment and a rollback")
        super().copy_repository()

    def say(self, text: str) -> None:
        """Show a caption above an empty terminal."""
        self._camera.hold(3)
        self._camera.show_terminal()
        self._camera.caption(text)
        self._camera.hold(1)

    def execute(self, command: tuple[str, ...], env: Mapping[str, str]) -> int:
        """Show a command and its output; return its exit code."""
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        self._write(f"[{minutes:02d}:{seconds:02d}] $ {shlex.join(command)}", 0.8)
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, cwd=self.project, env=env, text=True, **output) as process:  # type: ignore[call-overload]  # noqa: S603
            for number, line in enumerate(process.stdout):
                self._write(line.rstrip("\n"), 0.15 if number < 40 else 0.02)  # long output goes by quickly
        self._camera.hold(0.5)
        return int(process.returncode)

    def _write(self, line: str, seconds: float) -> None:
        for private, alias in self._aliases.items():
            line = line.replace(private, alias)
        print(line, flush=True)
        self._camera.write(line, seconds)

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
                self._camera.hold(5)

    def show_service(self) -> None:
        """Classify two photos on the service's page, and show the evidence; then show Prometheus."""
        camera, page = self._camera, self._camera.page
        answers = page.locator(".photo .label:visible")
        page.goto(self.url)
        camera.caption("The page of the service that was just deployed")
        camera.hold(2)
        page.locator("#files").set_input_files(_CAT)
        expect(answers).to_have_count(1, timeout=20_000)
        page.mouse.wheel(0, 200)
        camera.caption("A photo of a cat, and the answer of the released model")
        camera.hold(3)
        page.screencast.show_actions(cursor="pointer", style={"title": "display: none"})
        page.locator(".photo .frame").first.hover()
        camera.caption("With the mouse over the photo, the page shows the evidence for the answer")
        camera.hold(4)
        page.screencast.hide_actions()
        camera.picture("recording.png", play_button=True)
        page.locator("#files").set_input_files(_DUCK)
        expect(answers).to_have_count(2, timeout=20_000)
        camera.caption("A duck is neither a cat nor a dog")
        camera.hold(4)
        self.show_prometheus()

    def show_prometheus(self) -> None:
        """Send traffic to the service, and show on Prometheus' own page what it measures."""
        folder, host = self.folder / "prometheus", f"127.0.0.1:{free_port()}"
        folder.mkdir()
        job = f"{{job_name: cats-vs-dogs, static_configs: [{{targets: ['{self.url[7:]}']}}]}}"
        config = folder / "config.yml"
        config.write_text(f"global: {{scrape_interval: 1s}}\nscrape_configs: [{job}]\n", "utf-8")
        server = ("prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}")
        traffic = ["python", "-m", "scripts.traffic", self.url, str(self.folder / "photos-v1.0.0")]
        traffic += ["--seconds", "inf", "--mode"]
        with self.background(*server, f"--web.listen-address={host}", ready=f"http://{host}/-/ready"):
            for mode, query, caption in _TRAFFIC:
                other = ("--other", str(_DUCK.parent)) if mode == "other" else ()
                with self.background(*traffic, mode, *other):
                    self._camera.page.wait_for_timeout(20_000)
                    graph = f"g0.expr={quote(query)}&g0.tab=0&g0.range_input=1m&g0.step_input=1"
                    self._camera.page.goto(f"http://{host}/graph?{graph}")
                    self._camera.page.evaluate("document.body.style.zoom = 0.75")
                    self._camera.page.wait_for_timeout(2000)
                self._camera.caption(caption)
                self._camera.hold(5)

    @contextlib.contextmanager
    def background(self, *command: str, ready: str = "") -> Iterator[None]:
        """Run a program during the block; wait first until it answers at the URL `ready`.

        Raises:
            ProcessError: it does not answer in time.
            RehearsalError: it has ended by itself.
        """
        with (self.folder / "background.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                command, cwd=self.project, env=self.env, stdout=log, stderr=log, start_new_session=True
            )
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
