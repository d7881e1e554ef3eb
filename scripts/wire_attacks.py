"""Attack a service over its connections; check that other clients are still answered.

The service runs with the settings of render.yaml, unless --url and --pid name another one. The attackers
use the address 127.0.0.2, other clients 127.0.0.1. During each attack one client asks for /health and another
one repeatedly sends a photo, each time over a new connection. The exit code is 1 if a photo is not
answered, or if /health takes longer than allowed. If API_KEY is set, the service asks for it, and only the
other clients send it.
"""

import argparse
import contextlib
import dataclasses
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from scripts.common import arguments
from scripts.common.process import ROOT
from scripts.hostile_photos import Measured, render_settings
from scripts.stress import command
from scripts.stress.client import BROKEN, Client
from scripts.stress.open_loop import allow_many_connections

_PHOTO = (ROOT / "tests" / "photos" / "cat.jpg").read_bytes()
_HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_GET = b"GET / HTTP/1.1\r\n"
_WARM_UP_S = 2


@dataclass(frozen=True)
class Attack:
    """Connections that send `first`, then repeat `again`. If `again` is empty, they stay silent."""

    name: str
    connections: int
    first: bytes = b""
    again: bytes = b""
    reads: bool = False  # an answer after each `again`


def upload(body: bytes, missing: int = 0) -> bytes:
    """Return a request with a photo that lacks its last `missing` bytes."""
    return _HEAD + b"Content-Length: %d\r\n\r\n" % (len(body) + missing) + body


_LONG = 15_000
"""Bytes of a header that is just short enough."""

EXPENSIVE = [
    Attack("chunks of one byte", 10, _CHUNKED, b"1\r\nx\r\n" * 170_000),
    Attack("empty lines between chunks", 10, _CHUNKED, b"\r\n" * 500_000),
    Attack("a chunk line without an end", 10, _CHUNKED + b"1;", b"x" * 1_000_000),
    Attack("endless trailers", 10, _CHUNKED + b"0\r\n", b"X: y\r\n" * 170_000),
    Attack("empty lines before a request", 10, b"", b"\r\n" * 500_000),
    Attack("pipelined requests", 10, b"", b"GET /nothing HTTP/1.1\r\n\r\n" * 20_000),
    Attack("a first line that matches slowly", 10, b"", b"GET a://" + b"1" * _LONG + b" x y\r\n\r\n"),
    Attack("a header that matches slowly", 10, b"", _GET + b"X:" + b" " * _LONG + b"\0\r\n\r\n"),
    Attack("folded headers", 10, b"", _GET + b"X: y\r\n" + b" z\r\n" * 3000 + b"\r\n"),
    Attack("many small headers", 10, b"", _GET + b"a:\r\n" * 3500 + b"\r\n"),
]
"""Bytes that can be expensive to parse."""

ATTACKS = [
    Attack("nothing", 0),
    *EXPENSIVE,
    *(dataclasses.replace(each, connections=200) for each in EXPENSIVE[:2]),
    Attack("photos", 64, b"", upload(_PHOTO), reads=True),
    Attack("unfinished uploads of 1 MB", 400, upload(bytes(1_000_000), missing=1_000_000)),
    Attack("unfinished uploads of 9 MB", 30, upload(bytes(9_000_000), missing=1_000_000)),
    Attack("uploads over the limit", 30, upload(bytes(39_000_000), missing=1_000_000)),
    Attack("silent connections", 1005),
    Attack("unfinished headers", 1005, b"POST /predict HTTP/1.1\r\nHost: x\r\n"),
]


@dataclass
class Probe:
    """Sends a request again and again, and keeps how long each answer took."""

    send: Callable[[], str]
    pause_s: float
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def run(self, until: float) -> None:
        """Send until a time of the monotonic clock."""
        while (start := time.monotonic()) < until:
            if (status := self.send()) != "200":
                self.failures.append(status)
            self.seconds.append(time.monotonic() - start)
            time.sleep(self.pause_s)

    def p99_ms(self) -> float:
        """Return the 99th percentile of the times."""
        return 1000 * sorted(self.seconds)[int(0.99 * len(self.seconds))]


def attack(client: Client, pid: int | None, options: argparse.Namespace) -> list[str]:
    """Run each attack and print what other clients met; return one line per failure."""
    failures: list[str] = []
    client.headers["Connection"] = "close"  # each request must find a free connection
    for each in ATTACKS:
        if options.only in each.name:
            failures += _measured(each, client, pid, options)
    return failures


def _measured(each: Attack, client: Client, pid: int | None, options: argparse.Namespace) -> list[str]:
    url = urlsplit(client.url)
    address = (url.hostname or "", url.port or 80)
    attackers = multiprocessing.get_context("spawn").Process(
        target=_attackers, args=(each, address), daemon=True
    )
    health = Probe(lambda: _status(client, "GET", "/health"), pause_s=0.05)
    photos = Probe(lambda: _status(client, "POST", "/predict"), pause_s=0.02)
    attackers.start()
    with Measured(pid) if pid else contextlib.nullcontext() as cost:
        time.sleep(_WARM_UP_S)
        until = time.monotonic() + options.seconds
        threads = [threading.Thread(target=probe.run, args=(until,)) for probe in (health, photos)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    attackers.kill()
    attackers.join()
    name, answered = f"{each.connections} x {each.name}", len(photos.seconds) - len(photos.failures)
    memory = f"{cost.most_mb:6.0f} MB  " if cost else ""
    print(
        f"{memory}/health p99 {health.p99_ms():6.0f} ms, {answered} of {len(photos.seconds)} photos  {name}",
        flush=True,
    )
    failures = [f"{name}: {failure}" for failure in sorted({*health.failures, *photos.failures})]
    if health.p99_ms() > options.health_ms:
        failures.append(f"{name}: /health took {health.p99_ms():.0f} ms")
    return failures


def _status(client: Client, method: str, path: str) -> str:
    try:
        return str(client.send(method, path, _PHOTO if method == "POST" else None).status)
    except BROKEN as error:
        return f"no answer: {error!r}"


def _attackers(each: Attack, address: tuple[str, int]) -> None:
    """Attack until this process is killed."""
    allow_many_connections()
    for _ in range(each.connections):
        threading.Thread(target=_attacker, args=(each, address), daemon=True).start()
    threading.Event().wait()


def _attacker(each: Attack, address: tuple[str, int]) -> None:
    source = ("127.0.0.2", 0) if address[0] in ("127.0.0.1", "localhost") else None
    while True:
        with contextlib.suppress(OSError), socket.create_connection(address, 30, source) as connection:
            connection.sendall(each.first)
            while each.again:
                connection.sendall(each.again)
                if each.reads:
                    connection.recv(4096)
            connection.settimeout(None)
            while connection.recv(4096):  # until the service closes the connection
                pass
        time.sleep(0.05)


def main() -> int:
    """Run the command line; return the exit code."""
    parser = arguments.parser("wire_attacks", __doc__, "--only chunks")
    add = parser.add_argument
    add("--seconds", type=arguments.at_least(0.1), default=10, help="length of each attack (default: 10)")
    text = "highest p99 latency of /health that is allowed, in ms (default: 250)"
    add("--health-ms", type=float, default=250, help=text)
    add("--only", default="", help="run only attacks whose names contain this text (default: all)")
    key = {"API_KEYS": os.environ["API_KEY"]} if "API_KEY" in os.environ else {}
    return command.run_test(parser, attack, **render_settings(), **key)


if __name__ == "__main__":
    sys.exit(main())
