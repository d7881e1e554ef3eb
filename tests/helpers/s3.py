"""A real S3 server on loopback: moto's."""

import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from ml.scoring import stores
from scripts.common.process import free_port
from tests.helpers.waiting import HANG_S, until

_REQUEST = re.compile(r'"([A-Z]+) (\S+) HTTP/1\.1" (\d+)')


class Bucket:
    """An empty bucket named `photos`, and the requests that the server answered."""

    url = "s3://photos"

    def __init__(self, log: Path) -> None:
        self._log = log

    def requests(self, method: str, status: int) -> list[str]:
        """Return the path of each request with this method that was answered with this status."""
        found = _REQUEST.findall(self._log.read_text())
        return [path for verb, path, code in found if (verb, int(code)) == (method, status)]


@contextlib.contextmanager
def bucket(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Start the server, and set the environment so that clients in this process and its children use it."""
    port, log = free_port(), folder / "s3.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stderr=file,
            stdout=file,
        )
    try:
        until(lambda: _answers(port))
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").clear_instance_cache()
        stores._s3.cache_clear()  # of another test's server
        fsspec.filesystem("s3").mkdir("photos")
        yield Bucket(log)
    finally:
        server.terminate()
        server.wait(HANG_S)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False
