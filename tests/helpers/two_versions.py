"""Versions of the service as processes behind HAProxy: a target that can divide traffic, for tests.

Prometheus scrapes every process by itself, by a file that names them, as it does with `--targets`.
"""

import contextlib
import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from deploy.haproxy import configuration, shares_of
from deploy.smoke import is_ready
from deploy.target import Deployment, Unfinished, Variables
from scripts.common import monitoring
from scripts.common.process import free_port
from tests.helpers.haproxy import reload_haproxy
from tests.helpers.service import Service, running
from tests.helpers.waiting import HANG_S, until

SCRAPE_S = 0.5
_CONFIGURATION = """
global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}
scrape_configs:
  - job_name: cats-vs-dogs
    file_sd_configs: [{{files: [{targets}], refresh_interval: 1s}}]
"""


class Processes:
    """A `SplittingTarget`; an image is the path of a model."""

    def __init__(self, folder: Path, ending: contextlib.ExitStack) -> None:
        self._folder, self._ending = folder, ending
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.live: Service | None = None
        self.staged: Service | None = None
        self.images: dict[int, str] = {}
        self.targets, self._file = folder / "targets.json", folder / "haproxy.cfg"
        self._haproxy: subprocess.Popen[bytes] | None = None

    def current(self) -> Deployment | None:
        return Deployment("live", self.images[self.live.port], self.url) if self.live else None

    def previous(self, wanted: str) -> None: ...

    def unfinished(self) -> Unfinished | None: ...

    def resume(self, image: str, variables: Variables) -> str:
        raise NotImplementedError

    def stage(self, image: str, variables: Variables) -> str:
        """Start the first version."""
        self.live = self._start(image, variables)
        self._route({self.live.port: 100})
        return self.url

    def stage_beside(self, image: str, variables: Variables) -> str:
        self.staged = self._start(image, variables)
        self._write_targets()
        return f"http://127.0.0.1:{self.staged.port}"

    def split(self, percent: int) -> None:
        assert self.live
        assert self.staged
        self._route({self.live.port: 100 - percent, self.staged.port: percent})

    def promote(self) -> str:
        if self.staged:
            self.live, self.staged = self.staged, None
            self._route({self.live.port: 100})
        return self.url

    def roll_back(self, to: Deployment | None) -> str:
        assert self.live
        self.staged = None
        self._route({self.live.port: 100})
        return self.url

    def shares(self) -> list[int]:
        return list(shares_of(self._file.read_text()).values())

    def _start(self, image: str, variables: Variables) -> Service:
        env = {name: value for name, value in variables.items() if value}
        env |= {"MODEL_URL": f"file://{image}", "FEEDBACK_SECRET": "of-all-versions-0", "LOG_LEVEL": "error"}
        service = self._ending.enter_context(running(**env))
        service.wait()
        self.images[service.port] = image
        return service

    def _route(self, shares: dict[int, int]) -> None:
        self._file.write_text(configuration(f"127.0.0.1:{self.port}", shares))
        if self._haproxy is None:
            command = ["haproxy", "-W", "-db", "-q", "-f", str(self._file)]
            self._haproxy = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            self._ending.callback(self._haproxy.wait)
            self._ending.callback(self._haproxy.terminate)
            until(lambda: is_ready(self.url))
        else:
            reload_haproxy(self._haproxy)
        self._write_targets()

    def _write_targets(self) -> None:
        addresses = [f"127.0.0.1:{one.port}" for one in (self.live, self.staged) if one]
        temporary = self.targets.with_suffix(".new")
        temporary.write_text(json.dumps([{"targets": addresses}]))
        temporary.rename(self.targets)


@contextlib.contextmanager
def prometheus(folder: Path, targets: Path) -> Iterator[str]:
    """Run Prometheus with the targets of that file; yield its URL."""
    config = folder / "prometheus.yml"
    config.write_text(_CONFIGURATION.format(interval=f"{SCRAPE_S * 1000:.0f}ms", targets=targets))
    with monitoring.prometheus(config, folder) as url:
        yield url


@contextlib.contextmanager
def traffic(url: str, photos: dict[str, list[bytes]], feedback: bool, threads: int = 2) -> Iterator[None]:
    """Send photos of every class in turn, as fast as they are answered, and their true labels."""
    over = threading.Event()

    def send() -> None:
        pairs = [
            (label, photo)
            for each in zip(*photos.values(), strict=False)
            for label, photo in zip(photos, each, strict=True)
        ]
        while not over.is_set():
            for label, photo in pairs:
                with contextlib.suppress(OSError, urllib.error.HTTPError):
                    answer = _post(f"{url}/predict", photo, "image/jpeg")
                    if feedback:
                        told = {
                            "predicted": answer["label"],
                            "actual": label,
                            "request_id": answer["request_id"],
                        }
                        _post(f"{url}/feedback", json.dumps(told).encode(), "application/json")
                if over.is_set():
                    break

    senders = [threading.Thread(target=send) for _ in range(threads)]
    for sender in senders:
        sender.start()
    try:
        yield
    finally:
        over.set()
        for sender in senders:
            sender.join(HANG_S)


def _post(url: str, body: bytes, media_type: str) -> dict:
    request = urllib.request.Request(url, body, {"Content-Type": media_type})
    with urllib.request.urlopen(request, timeout=HANG_S) as answer:
        content = answer.read()
    return json.loads(content) if content else {}
