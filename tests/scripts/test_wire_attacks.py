"""`scripts.wire_attacks`, on the service and on a server that fails its clients."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from scripts import wire_attacks
from tests.helpers.http_server import Handler, Server


def run(*options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "scripts.wire_attacks", "--seconds", "1", *options]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    return process.returncode, process.stdout + process.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is an address of this machine on Linux alone")
def test_the_service_answers_during_an_attack() -> None:
    code, output = run("--only", "without an end", "--health-ms", "60000")  # the machine may be busy
    assert "10 x a chunk line without an end" in output
    assert code == 0, output


class SlowHandler(Handler):
    def do_GET(self) -> None:
        time.sleep(0.3)
        self.answer()


@pytest.fixture
def slow_url() -> Iterator[str]:
    with Server(SlowHandler) as server:
        yield server.url


def test_a_server_that_fails_its_clients_is_reported(slow_url: str) -> None:
    code, output = run("--only", "nothing", "--url", slow_url)
    assert code == 1
    assert "failed: 0 x nothing: 501" in output  # POST is not implemented
    assert "failed: 0 x nothing: /health took " in output


def test_an_upload_may_lack_bytes_that_it_announces() -> None:
    head, _, body = wire_attacks.upload(b"four", missing=2).partition(b"\r\n\r\n")
    assert b"Content-Length: 6" in head
    assert body == b"four"
