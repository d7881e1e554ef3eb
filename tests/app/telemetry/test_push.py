"""Metrics pushed to a real Pushgateway."""

import re
import shutil
import signal
import time
import urllib.request

import pytest

from scripts.common import monitoring
from scripts.common.process import free_port
from tests.conftest import REQUIRE_ALL, not_installed
from tests.helpers.http_server import Handler, Server
from tests.helpers.paths import ROOT
from tests.helpers.service import running
from tests.helpers.waiting import HANG_S, until

GATEWAY = "prometheus-pushgateway"
CAT = (ROOT / "tests" / "photos" / "cat.jpg").read_bytes()


@pytest.fixture
def gateway(tmp_path):
    if not shutil.which(GATEWAY) and not REQUIRE_ALL:
        pytest.skip(not_installed(GATEWAY))
    with monitoring.pushgateway(tmp_path) as url:
        yield url


def held(url: str) -> str:
    with urllib.request.urlopen(f"{url}/metrics", timeout=HANG_S) as response:
        return response.read().decode()


def test_metrics_are_pushed_and_deleted_at_the_end(gateway):
    with running(METRICS_PUSH_URL=gateway, METRICS_PUSH_SECONDS="1") as service:
        service.wait()
        service.predict(CAT)
        sample = r'^predictions_total\{instance="[0-9a-f]{12}",job="cats-vs-dogs",label="cat"\} 1$'
        until(lambda: re.search(sample, held(gateway), re.M))
        assert service.end(signal.SIGTERM)[0] == 0
    until(lambda: "predictions_total" not in held(gateway))  # it answers before it has deleted them


def test_a_gateway_that_has_failed_does_not_delay_the_end():
    asked = []

    class Gateway(Handler):
        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(self.command)
            self.answer(500)

        def do_DELETE(self):
            asked.append(self.command)
            self.answer(202)

    with (
        Server(Gateway) as gateway,
        running(METRICS_PUSH_URL=gateway.url, METRICS_PUSH_SECONDS="1") as service,
    ):
        service.wait()
        until(lambda: asked)
        assert service.end(signal.SIGTERM)[0] == 0
    assert {*asked} == {"PUT"}


def test_an_unreachable_gateway_is_logged_once_and_does_no_harm():
    url = f"http://user:secret@127.0.0.1:{free_port()}/secret"
    with running(METRICS_PUSH_URL=url, METRICS_PUSH_SECONDS="1") as service:
        service.wait()
        assert service.process.stdout
        assert service.process.stderr
        output = ""
        while "can't be pushed" not in output:
            output += service.process.stdout.readline()
        time.sleep(2.5)  # for further attempts
        assert service.predict(CAT)[0] == 200
        service.process.send_signal(signal.SIGTERM)
        output += service.process.stdout.read() + service.process.stderr.read()
        assert service.process.wait(HANG_S) == 0
    assert output.count("can't be pushed") == 1
    assert "secret" not in output
