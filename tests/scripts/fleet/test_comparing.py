"""The model predicts which photos real instances behind a real HAProxy reject.

Latencies under load depend on what else the machine does: `scripts.capacity_check` compares those.
"""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from scripts.fleet.comparing import Figures, compare, service_times
from scripts.fleet.haproxy import balanced
from scripts.fleet.pods import Limits
from scripts.stress.client import Client
from tests.conftest import needs
from tests.helpers.paths import ROOT
from tests.helpers.service import running
from tests.helpers.waiting import HANG_S

pytestmark = needs("haproxy")

CAT = ROOT / "tests" / "photos" / "cat.jpg"
_SLEEPS = """
import sys, time
from app.__main__ import main
from app.routes import predict

classify = predict.classify

def slow(*arguments, **options):
    time.sleep(0.2)
    return classify(*arguments, **options)

predict.classify = slow
sys.exit(main([]))
"""
"""The service with predictions that wait for 200 ms, so that other programs hardly disturb them."""


@contextlib.contextmanager
def fleet(pods: int, limits: Limits) -> Iterator[Client]:
    env = {"MAX_CONCURRENCY": f"{limits.workers}", "MAX_QUEUE": f"{limits.queue}", "LOG_LEVEL": "error"}
    env["REQUEST_TIMEOUT_S"] = f"{limits.timeout_s:g}"
    with contextlib.ExitStack() as stack:
        services = [
            stack.enter_context(running(command=(sys.executable, "-c", _SLEEPS), **env)) for _ in range(pods)
        ]
        for service in services:
            service.wait()
        urls = [f"http://127.0.0.1:{service.port}" for service in services]
        client = Client(stack.enter_context(balanced(urls, "round-robin")))
        service_times(client, [CAT.read_bytes()], 6, pods * limits.workers, 1)
        yield client


def rejections_agree(pods: int, limits: Limits, load: float, *, least: float, tolerance: float) -> Figures:
    """Overload instances, and return what was measured; one of three tries must be as predicted.

    A machine that becomes slower or faster during a try is another one than that of the prediction.
    """
    tried = []
    with fleet(pods, limits) as client:
        for seed in range(3):
            model, real, _ = compare(
                client,
                [CAT.read_bytes()],
                limits,
                pods,
                "round-robin",
                load,
                seconds=12,
                singles=15,
                seed=seed,
            )
            tried.append((model.rejected, real.rejected))
            if min(tried[-1]) > least and abs(model.rejected - real.rejected) < tolerance:
                return real
    pytest.fail(f"rejected as predicted, and as measured: {tried}")


def test_a_full_queue_rejects_as_predicted() -> None:
    rejections_agree(2, Limits(workers=1, queue=2, timeout_s=10), 2.0, least=0.3, tolerance=0.1)


def test_who_waits_too_long_is_rejected_as_predicted() -> None:
    """The queue has room for all, but a photo may wait only for a second."""
    limits = Limits(workers=1, queue=1000, timeout_s=1)
    real = rejections_agree(1, limits, 3.0, least=0.3, tolerance=0.2)
    assert real.p50 > 500


def check(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.capacity_check", str(CAT), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, cwd=ROOT)


def test_the_command() -> None:
    done = check("--rounds", "2", "--seconds", "2", "--singles", "10", "--loads", "0.2")
    assert done.returncode == 0, done.stderr
    _, _, *rows = [line.replace("%", "").split() for line in done.stdout.splitlines()]
    assert [row[:2] for row in rows] == [["1", "20"], ["2", "20"]]
    for row in rows:
        assert all(float(figure) > 0 for figure in row[3:])
        model, real = float(row[3]), float(row[4])
        assert real < 3 * model  # an open loop sends what it should send


def test_the_command_without_haproxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    done = check()
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "haproxy" in done.stderr
    assert done.stderr.count("\n") == 1
