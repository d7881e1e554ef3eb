"""The traffic generator sends what its mode says, and reports the answers."""

import io
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import coloured, encode
from tests.helpers.endpoint import PREDICTION, Reply, Sent, endpoint
from tests.helpers.paths import ROOT
from tests.helpers.service import blocked, running
from tests.helpers.waiting import HANG_S, until

CAT = ROOT / "tests" / "photos" / "cat.jpg"
COMMAND = (sys.executable, "-m", "scripts.traffic")
REJECTED = 'predictions_rejected_total{reason="queue_full"}'


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The same photo in two classes, so that half of the true labels are wrong."""
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        shutil.copy(CAT, tmp_path / "photos" / label / "photo.jpg")
    (tmp_path / "photos" / "cat" / ".hidden.jpg").write_bytes(b"-")
    return tmp_path / "photos"


def traffic(url: str, *arguments: object, code: int = 0, **env: str) -> str:
    command = [*COMMAND, url, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, env=os.environ | env)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def table(output: str) -> dict[str, int]:
    closing = output[output.index("requests sent in") :]
    return {name: int(count) for name, count in re.findall(r"^(\S+) +(\d+) +[\d.]+ ", closing, re.MULTILINE)}


def metric(port: int, name: str) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=HANG_S) as answer:
        lines = answer.read().decode().splitlines()
    return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith(name)}


def test_modes_on_the_service(photos: Path) -> None:
    patient = {"LOG_LEVEL": "error", "MAX_QUEUE": "1024", "REQUEST_TIMEOUT_S": "3600"}
    with running(**patient) as service:
        service.wait()
        url = f"http://127.0.0.1:{service.port}"
        output = traffic(url, photos, "--rate", 20, "--seconds", 3, "--feedback", 1)
        answers = table(output)
        count = answers["200"]
        assert set(answers) == {"200", "/feedback"}
        assert f"{count} requests sent in " in output
        assert f"label cat: {count} (100.0 %)" in output
        assert re.search(r"^ +[12] s  \d+ sent; .*200: \d+", output, re.MULTILINE)
        judgements = metric(service.port, "feedback_total")
        assert set(judgements) == {
            f'feedback_total{{actual="{name}",predicted="cat"}}' for name in ("cat", "dog")
        }
        assert sum(judgements.values()) == answers["/feedback"] == count

        assert table(traffic(url, photos, "--mode", "bad", "--rate", 60, "--seconds", 2)).keys() > {
            "404",
            "405",
            "415",
            "422",
            "413",
            "400",
        }
        assert service.end() == (0, "", "")


def test_a_burst(photos: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"  # stays closed: one worker and two places in the queue stay taken
    with blocked(gate, LOG_LEVEL="error", MAX_QUEUE="2") as service, ThreadPoolExecutor() as beside:
        url = f"http://127.0.0.1:{service.port}"
        burst = beside.submit(traffic, url, photos, "--mode", "burst", "--rate", 60, "--seconds", 1)
        until(lambda: metric(service.port, REJECTED).get(REJECTED) == 117)
        gate.touch()
        assert table(burst.result()) == {"200": 3, "503": 117}


def sent_photos(photos: Path, *arguments: object) -> list[np.ndarray]:
    """Return the photos that a mode sends."""
    with endpoint(lambda _: Reply(content=PREDICTION)) as (url, seen):
        traffic(url, photos, "--rate", 20, "--seconds", 0.5, *arguments)
        return [np.asarray(Image.open(io.BytesIO(sent.body)), float) for sent in seen]


def test_changed_photos(photos: Path, tmp_path: Path) -> None:
    cat = np.asarray(Image.open(CAT), float)
    sharp = np.abs(np.diff(cat, axis=1)).mean()
    for dark in sent_photos(photos, "--mode", "dark"):
        assert dark.shape == cat.shape
        assert dark.mean() == pytest.approx(cat.mean() / 4, rel=0.03)
    for blurred in sent_photos(photos, "--mode", "blurred"):
        assert blurred.shape == cat.shape
        assert blurred.mean() == pytest.approx(cat.mean(), rel=0.03)
        assert np.abs(np.diff(blurred, axis=1)).mean() < sharp / 3
    other = tmp_path / "other.jpg"
    other.write_bytes(encode(coloured((10, 200, 10))))
    assert {sent.shape for sent in sent_photos(photos, "--mode", "other", "--other", other)} == {(40, 60, 3)}


def test_the_seed_decides_what_is_sent(photos: Path) -> None:
    def bodies(seed: int) -> list[bytes]:
        with endpoint(lambda _: Reply()) as (url, seen):
            traffic(url, photos, "--mode", "bad", "--rate", 40, "--seconds", 0.5, "--seed", seed)
        return sorted(sent.body for sent in seen)

    assert bodies(1) == bodies(1) != bodies(2)


def test_key_and_proxy_with_chunks(photos: Path) -> None:
    """Under a path prefix, with chunked answers, invalid predictions, and a class that the model lacks."""
    answers = iter([b"no JSON", json.dumps(PREDICTION | {"probabilities": {"x": 1}}).encode()] * 100)

    def reply(_: Sent) -> Reply:
        return Reply(content=next(answers), chunked=True)

    with endpoint(reply) as (url, seen):
        options = ("--rate", 20, "--seconds", 1, "--feedback", 1)
        output = traffic(f"{url}/under/", photos, *options, API_KEY="the-key")
    assert {sent.path for sent in seen} == {"/under/predict"}
    assert {sent.headers["x-api-key"] for sent in seen} == {"the-key"}
    assert {sent.headers["host"] for sent in seen} == {url.removeprefix("http://")}
    assert set(table(output)) == {"200"}
    assert "label cat: " in output
    assert "label (no prediction): " in output


def test_no_server_and_wrong_arguments(photos: Path, tmp_path: Path) -> None:
    output = traffic("http://127.0.0.1:1", photos, "--seconds", 0.5, code=1)
    assert set(table(output)) == {"error"}
    assert output.endswith("error: nothing was answered\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("no photo")
    url = "http://127.0.0.1:1"
    for arguments, message in (
        ((url, tmp_path / "missing"), "there is no file or folder"),
        ((url, tmp_path / "empty"), "there are no photos"),
        ((url, tmp_path / "text.jpg", "--mode", "dark"), "left out: "),
        ((url, CAT, "--feedback", 0.5), "one subfolder per class"),
        ((url, CAT, "--mode", "other"), "must be used together"),
        ((url, CAT, "--rate", "nan"), "must be positive"),
        (("ftp://127.0.0.1", CAT), "http://"),
        ((url, CAT, "--api-key", "x"), "unrecognized"),
    ):
        assert message in traffic(*arguments, code=2)
    assert "header" in traffic(url, CAT, code=2, API_KEY="two\nlines")


def test_an_interrupted_run_reports(photos: Path) -> None:
    with endpoint(lambda _: Reply(content=PREDICTION)) as (url, _):
        command = [*COMMAND, url, photos, "--seconds", "inf"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout
        assert any("200: " in line for line in islice(process.stdout, 60))  # one comes every second
        process.send_signal(signal.SIGINT)
        rest, error = process.communicate(timeout=HANG_S)
    assert process.returncode == 0
    assert not error
    assert "label cat: " in rest


def test_https(photos: Path, tls: ssl.SSLContext) -> None:
    with endpoint(lambda _: Reply(content=PREDICTION), tls) as (url, seen):
        output = traffic(url, photos, "--rate", 20, "--seconds", 0.5)
        assert set(table(output)) == {"200"}
        assert seen
        traffic(
            url, photos, "--rate", 20, "--seconds", 0.5, code=1, SSL_CERT_FILE=os.devnull
        )  # trusts nobody
