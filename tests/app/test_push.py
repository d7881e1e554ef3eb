"""Metrics pushed to a real Pushgateway."""

import re
import shutil
import signal
import subprocess
import time
import urllib.request

import pytest

from tests.app.service import ROOT, free_port, running
from tests.conftest import REQUIRE_ALL

GATEWAY = "prometheus-pushgateway"
CAT = (ROOT / "tests" / "photos" / "cat.jpg").read_bytes()


@pytest.fixture
def gateway():
    if not shutil.which(GATEWAY) and not REQUIRE_ALL:
        pytest.skip(f"{GATEWAY} is not installed")
    port = free_port()
    process = subprocess.Popen(
        [GATEWAY, f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def held(url: str) -> str:
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as response:
        return response.read().decode()


def until(condition, seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_figures_come_to_the_gateway_and_are_taken_back(gateway):
    with running(METRICS_PUSH_URL=gateway, METRICS_PUSH_SECONDS="1") as service:
        service.wait()
        service.predict(CAT)
        sample = r'^predictions_total\{instance="[0-9a-f]{12}",job="cats-vs-dogs",label="cat"\} 1$'
        until(lambda: re.search(sample, held(gateway), re.M))
        assert service.end(signal.SIGTERM)[0] == 0
    assert "predictions_total" not in held(gateway)


def test_a_gateway_that_is_gone_harms_nothing_and_is_told_once():
    url = f"http://user:secret@127.0.0.1:{free_port()}/secret"
    with running(METRICS_PUSH_URL=url, METRICS_PUSH_SECONDS="1") as service:
        service.wait()
        time.sleep(2.5)
        assert service.predict(CAT)[0] == 200
        code, output, error = service.end(signal.SIGTERM)
    assert code == 0
    assert (output + error).count("can't be pushed") == 1
    assert "secret" not in output + error
