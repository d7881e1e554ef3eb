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

from scripts.wire_attacks import EXPENSIVE, Attack
from tests.app.routes.test_predict import RED_JPEG
from tests.helpers.service import Service, running
from tests.helpers.waiting import HANG_S, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")


@contextlib.contextmanager
def attackers(service: Service, attack: Attack) -> Iterator[list[int]]:
    """Send from many connections for as long as the context lasts; connect again when one is closed.

    Yields what has been sent, in bytes.
    """
    stop = threading.Event()
    sent: list[int] = []

    def send() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                address = ("127.0.0.1", service.port)
                with socket.create_connection(address, timeout=1, source_address=("127.0.0.2", 0)) as one:
                    one.sendall(attack.first)
                    while not stop.is_set():
                        one.sendall(attack.again)
                        sent.append(len(attack.again))
            stop.wait(0.05)

    threads = [threading.Thread(target=send, daemon=True) for _ in range(attack.connections)]
    for thread in threads:
        thread.start()
    try:
        yield sent
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


def seconds_beside(service: Service, attack: Attack) -> float:
    with attackers(service, attack) as sent:
        until(lambda: sent)
        return seconds(service, 10)


def ordinary(service: Service) -> float:
    requests = Attack("ordinary requests", 10, b"", b"GET /health HTTP/1.1\r\n\r\n")
    return max(seconds_beside(service, requests) for _ in range(3))


@pytest.fixture(scope="module")
def before(service: Service) -> float:
    return ordinary(service)


@pytest.mark.parametrize("attack", EXPENSIVE, ids=lambda attack: attack.name)
def test_others_are_answered_meanwhile(service, before, attack):
    if seconds_beside(service, attack) >= 8 * before:
        now = ordinary(service)  # the machine may be busier than it was before
        assert seconds_beside(service, attack) < 8 * now
