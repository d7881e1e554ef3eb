"""Prometheus, Alertmanager and what asks them, as real processes on loopback."""

import contextlib
import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.common.process import free_port
from tests.helpers.waiting import HANG_S, until


def ask(url: str, **parameters: str) -> Any:
    query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
    try:
        with urllib.request.urlopen(url + query, timeout=HANG_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None


def query(url: str, expression: str) -> list[dict[str, Any]]:
    """Series that Prometheus answers with now: each with `metric`, its labels, and `value`, time and text."""
    result: list[dict[str, Any]] = ask(f"{url}/api/v1/query", query=expression)["data"]["result"]
    return result


@contextlib.contextmanager
def process(command: list[str], url: str, log: Path, **env: str) -> Iterator[str]:
    """Run a server until it is ready and no longer is needed; yield its URL."""
    with log.open("w") as file:
        running = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | env)
    try:
        until(lambda: running.poll() is not None or ready(url))
        assert running.poll() is None, log.read_text()
        yield url
    finally:
        running.kill()
        running.wait()


def ready(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=HANG_S) as answer:
        return bool(answer.status == 200)
    return False


def prometheus(config: Path, folder: Path, **env: str) -> contextlib.AbstractContextManager[str]:
    """Run Prometheus with that configuration, in which localhost:9090 becomes its own address."""
    address = f"127.0.0.1:{free_port()}"
    config.write_text(config.read_text().replace("localhost:9090", address))
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={address}",
        # It discovers Alertmanager after 5 s. Alerts from before are sent again, by default after a minute.
        "--rules.alert.resend-delay=1s",
        "--log.level=warn",
    ]
    return process(command, f"http://{address}", folder / "prometheus.log", **env)


def pushgateway(folder: Path) -> contextlib.AbstractContextManager[str]:
    """Run a Pushgateway; its log goes into the folder."""
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus-pushgateway", f"--web.listen-address={address}"]
    return process(command, f"http://{address}", folder / "pushgateway.log")


def alertmanager(config: Path, folder: Path) -> contextlib.AbstractContextManager[str]:
    """Run Alertmanager alone, with that configuration; what it keeps goes into the folder."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus-alertmanager",
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    return process(command, f"http://{address}", folder / "alertmanager.log")
