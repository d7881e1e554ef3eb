"""Clients that send what is expensive to parse don't keep /health and photos from being answered.

The time of requests under attack is compared with their time while as many clients send ordinary requests all
the time, on the same service. So it doesn't depend on the machine. With a parser that takes quadratic time,
one request alone takes longer under each of these attacks than ten while the others send ordinary requests.
"""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.app.routes.test_predict import RED_JPEG
from tests.helpers.service import Service, running
from tests.helpers.waiting import HANG_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")

CHUNKED = b"POST /predict HTTP/1.1\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = 15_000
"""Bytes of a header that is just short enough."""

ATTACKS = {
    "one-byte chunks": (CHUNKED, b"1\r\nx\r\n" * 170_000),
    "empty lines between chunks": (CHUNKED, b"\r\n" * 500_000),
    "a chunk line without an end": (CHUNKED + b"1;", b"x" * 1_000_000),
    "endless trailers": (CHUNKED + b"0\r\n", b"X: y\r\n" * 170_000),
    "empty lines before a request": (b"", b"\r\n" * 500_000),
    "pipelined requests": (b"", b"GET /nothing HTTP/1.1\r\n\r\n" * 20_000),
    "a first line that matches slowly": (b"", b"GET a://" + b"1" * LONG + b" x y\r\n\r\n"),
    "a header that matches slowly": (b"", b"GET / HTTP/1.1\r\nX:" + b" " * LONG + b"\0\r\n\r\n"),
    "folded headers": (b"", b"GET / HTTP/1.1\r\nX: y\r\n" + b" z\r\n" * 3000 + b"\r\n"),
    "many small headers": (b"", b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 3500 + b"\r\n"),
}


@contextlib.contextmanager
def attackers(service: Service, count: int, start: bytes, again: bytes) -> Iterator[None]:
    """Send from many connections for as long as the context lasts; connect again when one is closed."""
    stop = threading.Event()

    def attack() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                address = ("127.0.0.1", service.port)
                with socket.create_connection(address, timeout=1, source_address=("127.0.0.2", 0)) as one:
                    one.sendall(start)
                    while not stop.is_set():
                        one.sendall(again)
            stop.wait(0.05)

    threads = [threading.Thread(target=attack, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(HANG_S)


def seconds(service: Service, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        assert service.get("/health")[0] == 200
        assert service.predict(RED_JPEG)[0] == 200
    return time.perf_counter() - started


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(MAX_CONCURRENCY="1", MAX_PIXELS="16000000", MAX_QUEUE="32", LOG_LEVEL="error") as service:
        service.wait()
        seconds(service, 5)
        yield service


def seconds_beside(service: Service, start: bytes, again: bytes) -> float:
    with attackers(service, 10, start, again):
        time.sleep(0.3)
        return seconds(service, 10)


@pytest.fixture(scope="module")
def ordinary(service: Service) -> float:
    return max(seconds_beside(service, b"", b"GET /health HTTP/1.1\r\n\r\n") for _ in range(3))


@pytest.mark.parametrize("attack", ATTACKS)
def test_others_are_answered_meanwhile(service, ordinary, attack):
    assert seconds_beside(service, *ATTACKS[attack]) < 8 * ordinary
