"""The gateway's configuration, run by a real nginx in front of two real instances of the service."""

import contextlib
import http.client
import itertools
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.common.process import free_port
from tests.app.routes.test_open_inference import INFER, elements, images, with_binary
from tests.app.routes.test_predict import RED_JPEG
from tests.conftest import needs
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, running
from tests.helpers.waiting import HANG_S, until

CONFIGURATION = ROOT / "deploy" / "k8s" / "components" / "gateway" / "default.conf"
_MB = 1024 * 1024
pytestmark = needs("nginx")


class Gateway:
    """nginx on a free port of loopback."""

    def __init__(self, folder: Path, ports: list[int], rate: str) -> None:
        self.port = free_port()
        text = CONFIGURATION.read_text()
        # What needs a cluster: its name server, and the name of its pods. Debian's nginx can't `resolve`.
        for pattern, replacement in (
            (r"^resolver .*;$", ""),
            (r"server pods\S+ resolve (.*);", "".join(rf"server 127.0.0.1:{port} \1;" for port in ports)),
            (r"listen 8080;", f"listen 127.0.0.1:{self.port};"),
            (r"access_log /dev/stdout json;", f"access_log {folder}/access.log json;"),
            (r"rate=20r/s", f"rate={rate}"),
        ):
            text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
            assert count == 1, pattern
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.getuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            f"{user} worker_processes 2; pid {folder}/pid; error_log {folder}/error.log; daemon off;\n"
            f"events {{}}\nhttp {{ {temporary}\n{text}\n}}\n"
        )
        self.log = folder / "access.log"
        self.process = subprocess.Popen(["nginx", "-p", folder, "-c", folder / "nginx.conf"])
        until(lambda: self.ask("GET", "/gateway/health")[0] == 200, "nginx doesn't answer")

    def ask(
        self, method: str, path: str, body: bytes | None = None, source: str = "127.0.0.1", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=HANG_S, source_address=(source, 0)
        )
        with contextlib.closing(connection):
            try:
                connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            except ConnectionRefusedError:  # it is still starting
                return 0, http.client.HTTPMessage(), b""
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def predict(
        self, source: str = "127.0.0.1", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        return self.ask("POST", "/predict", RED_JPEG, source, **headers)


Start = Callable[..., tuple[Gateway, list[Service]]]


@pytest.fixture
def start(tmp_path: Path, make_model: Callable[..., Path]) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def make(rate: str = "1000000r/s") -> tuple[Gateway, list[Service]]:
            env = {
                "MODEL_URL": make_model().as_uri(),
                "LOG_LEVEL": "error",
                "TRUSTED_PROXIES": "127.0.0.1/32",
            }
            services = [stack.enter_context(running(**env)) for _ in range(2)]
            for service in services:
                service.wait()
            gateway = Gateway(tmp_path, [service.port for service in services], rate)
            stack.callback(gateway.process.wait, HANG_S)
            stack.callback(gateway.process.send_signal, signal.SIGQUIT)
            return gateway, services

        yield make


def test_each_address_has_a_limit_of_its_own(start):
    gateway, _ = start("1r/m")
    answers = [gateway.predict(X_Request_ID=f"mine-{number}") for number in range(60)]
    assert [status for status, *_ in answers] == [200] * 41 + [429] * 19
    _, headers, body = answers[-1]
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Retry-After"] == "1"
    assert headers["X-Request-ID"] == json.loads(body)["request_id"] == "mine-59"
    assert set(json.loads(body)) == {"title", "status", "detail", "request_id"}
    assert gateway.predict("127.0.0.2")[0] == 200
    forged = [gateway.predict(X_Forwarded_For=f"198.51.100.{number}")[0] for number in range(3)]
    assert forged == [429] * 3
    assert gateway.ask("GET", "/gateway/health")[0] == 200


def test_ids_and_both_apis_pass(start):
    gateway, services = start()
    _, headers, body = gateway.predict(X_Request_ID="mine")
    assert headers.get_all("X-Request-ID") == ["mine"]
    assert json.loads(body)["request_id"].startswith("mine.")
    _, headers, body = gateway.predict()
    made = headers["X-Request-ID"]
    assert json.loads(body)["request_id"].startswith(f"{made}.")
    until(lambda: f'"request_id":"{made}"' in gateway.log.read_text(), "the log doesn't have the id")
    tensor = images(shape=[1], parameters={"binary_data_size": len(elements(RED_JPEG))})
    del tensor["data"]
    request, more = with_binary({"inputs": [tensor]}, elements(RED_JPEG))
    status, _, body = gateway.ask("POST", INFER, request, **more)
    assert (status, json.loads(body)["outputs"][1]["data"]) == (200, ["red"])
    assert gateway.ask("GET", "/metrics")[0] == 404
    for _ in range(20):
        gateway.predict()
    for service in services:  # both get some
        assert 'predictions_total{label="red"} 0.0' not in service.metrics()


def test_bodies_up_to_the_service_s_limit_pass(start):
    gateway, _ = start()
    for size, status, decides in (
        (10 * _MB, 200, ""),
        (10 * _MB + 1, 413, "10 MB"),
        (12 * _MB, 413, "11 MB"),
    ):
        body = RED_JPEG + bytes(size - len(RED_JPEG))
        found, headers, answer = gateway.ask("POST", "/predict", body, X_Request_ID="large")
        assert found == status
        assert headers["X-Request-ID"] == "large"
        if status != 200:
            assert headers["Content-Type"] == "application/problem+json"
            assert decides in json.loads(answer)["detail"]


def test_an_instance_drains_without_a_failed_request(start):
    """Without the pause that preStop makes, so requests still reach the instance while it drains."""
    gateway, (first, second) = start()
    stop, statuses = threading.Event(), []

    def load(client: int) -> None:
        connection = http.client.HTTPConnection(
            "127.0.0.1", gateway.port, timeout=HANG_S, source_address=(f"127.0.1.{client}", 0)
        )
        with contextlib.closing(connection):
            for number in itertools.count():
                if stop.is_set():
                    return
                path = "/predict" if number % 2 else INFER
                body = RED_JPEG
                headers = {}
                if path == INFER:
                    tensor = images(shape=[1], parameters={"binary_data_size": len(elements(RED_JPEG))})
                    del tensor["data"]
                    body, headers = with_binary({"inputs": [tensor]}, elements(RED_JPEG))
                connection.request("POST", path, body, headers)
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, client) for client in range(1, 5)]
        try:
            until(lambda: len(statuses) > 50, "nothing is answered")
            first.process.send_signal(signal.SIGTERM)
            assert first.process.wait(HANG_S) == 0
            after = len(statuses)
            until(lambda: len(statuses) > after + 50, "nothing is answered after the drain")
        finally:
            stop.set()
        for one in loads:
            one.result()
    assert set(statuses) == {200}
    assert second.get("/ready")[0] == 200
