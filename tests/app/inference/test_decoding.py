"""The service decodes photos within its limits, and a photo that exceeds them costs nobody else anything."""

import itertools
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from app.inference import classify
from app.inference.decoding import Decoder
from app.settings import Settings
from app.telemetry.metrics import Metrics
from ml.model.errors import TooCostlyError, UnsupportedImageError
from ml.model.image import read
from ml.model.sandbox.sandbox import AVAILABLE
from scripts.common.pictures import encoded
from scripts.stress.bombs import bmp
from scripts.stress.heif import HEIC_INSTALLED, small, written
from tests.app.routes.test_predict import RED_JPEG, is_problem, send
from tests.conftest import REQUIRE_ALL, not_installed
from tests.helpers.paths import ROOT
from tests.helpers.service import running
from tests.helpers.waiting import HANG_S

PHOTOS = ROOT / "tests" / "photos"
CAT = (PHOTOS / "cat.jpg").read_bytes()
SLOW = bmp(14_000, 14_000, 8, 1, b"\1\0" * 20_000_000)
PLAIN = Image.new("RGB", (2000, 2000), "orange")

needs_fork = pytest.mark.skipif(not AVAILABLE, reason="this system has no fork")


@pytest.mark.parametrize(
    "photo",
    [
        CAT, encoded(PLAIN, "JPEG"), encoded(PLAIN, "JPEG", progressive=True), encoded(PLAIN, "PNG"),
        encoded(PLAIN, "WEBP"), encoded(PLAIN, "WEBP", lossless=True, method=0), encoded(PLAIN, "BMP"),
    ],
)  # fmt: skip
def test_the_place_of_decoding_changes_nothing(photo):
    here = read(photo)
    decoded, _ = Decoder(Settings(), Metrics()).read(photo, 224, "center_crop")
    assert np.array_equal(decoded.pixels, here.pixels)
    assert (decoded.width, decoded.height) == (here.width, here.height)


def test_a_photo_that_states_its_memory_is_refused_before_it_is_decoded():
    photo = encoded(Image.new("RGBA", (3000, 3000)), "PNG")
    decoder = Decoder(Settings(max_photo_mb=64), Metrics())
    with pytest.raises(TooCostlyError, match="takes 68 MB of memory; the limit is 64 MB"):
        decoder.read(photo, 224, "center_crop")
    assert decoder.read(encoded(PLAIN, "PNG"), 224, "center_crop")[0].width == 2000


@needs_fork
def test_a_photo_that_takes_too_long_frees_its_worker_and_is_counted():
    limits = {"MAX_PIXELS": "200000000", "MAX_PHOTO_MB": "4096", "MAX_UPLOAD_MB": "64"}
    with running(MAX_CONCURRENCY="1", LOG_LEVEL="error", **limits) as service:
        service.wait()
        status, problem = service.predict(SLOW)
        assert (status, problem["title"]) == (422, "Unprocessable Entity")
        assert "2 s of CPU time" in problem["detail"]
        assert service.predict(CAT)[1]["label"] == "cat"
        assert "\ndecoders_stopped_total 1.0\n" in service.metrics()
        assert service.end() == (0, "", "")


@needs_fork
def test_the_time_in_the_sandbox_counts_for_the_request(make_app):
    """The request ends after the photos that fit into its time."""
    client = make_app(request_timeout_s=1).test_client()
    slow = encoded(PLAIN.resize((4000, 4000)), "JPEG", progressive=True)[:-2]  # decoded three times
    head = b'--limit\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    form = (head + slow + b"\r\n") * 50 + b"--limit--\r\n"
    answer = client.post("/predict", data=form, content_type="multipart/form-data; boundary=limit")
    problems = {413: "50 photos need more than 1 s", 422: "of CPU time"}  # 422: a very slow machine
    assert problems[answer.status_code] in answer.get_json()["detail"]


def test_the_time_of_the_network_counts_for_the_request(make_app, monkeypatch):
    clock = itertools.count(step=0.3)  # s; one look for each photo that is decoded or classified
    monkeypatch.setattr(classify, "time", SimpleNamespace(thread_time=lambda: next(clock)))
    client = make_app(request_timeout_s=1).test_client()
    assert send(client, RED_JPEG).status_code == 200
    assert "2 photos need more than 1 s" in is_problem(send(client, *[RED_JPEG] * 2), 413)["detail"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_NOFILE as Linux has it")
def test_without_descriptors_no_good_photo_is_called_corrupt():
    script = """
import os, resource, sys
from app.inference.decoding import Decoder
from ml.model.sandbox.sandbox import NoWorkerError
from app.settings import Settings
from app.telemetry.metrics import Metrics
from pathlib import Path
photos = [Path(name).read_bytes() for name in sys.argv[1:]]
decoder = Decoder(Settings(), Metrics())
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
files = []
try:
    while True: files.append(os.open(os.devnull, os.O_RDONLY))
except OSError: pass
for photo in photos:
    try: print(decoder.read(photo, 224, "center_crop")[0].width)
    except NoWorkerError: print("no worker")
"""
    command = [sys.executable, "-c", script, *map(str, sorted(PHOTOS.glob("*.jpg"))[:2])]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, cwd=ROOT)
    assert [line.isdigit() for line in shown.stdout.splitlines()] == [True, True], shown.stderr


@pytest.mark.skipif(not HEIC_INSTALLED and not REQUIRE_ALL, reason=not_installed("pillow-heif"))
def test_without_a_sandbox_avif_is_decoded_and_heic_is_not(monkeypatch):
    """As on Windows."""
    monkeypatch.setattr("ml.model.careful.AVAILABLE", False)
    decoder = Decoder(Settings(), Metrics())
    assert decoder.read(written(small(b"av01")), 32, "squash")[0].width == 64
    with pytest.raises(UnsupportedImageError, match="send a JPEG instead"):
        decoder.read(written(small(b"hvc1")), 32, "squash")
    assert "fork" in decoder.heic_problem()


@needs_fork
def test_a_lack_of_workers_is_503_and_counted(make_app, monkeypatch):
    app = make_app()
    monkeypatch.setattr(sys, "executable", "/does/not/exist")
    # Small, but nothing in its structure bounds what it costs.
    answer = send(app.test_client(), encoded(PLAIN.resize((60, 60)), "WEBP", lossless=True, method=0))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert "try again" in json.loads(answer.data)["detail"]
    metrics = app.test_client().get("/metrics").text
    assert 'predictions_rejected_total{reason="no_resources"} 1.0' in metrics


@needs_fork
def test_no_more_costly_photos_at_once_than_there_is_memory_for(monkeypatch):
    monkeypatch.setattr("app.memory.memory_limit", lambda: 672 * 2**20)
    decoder = Decoder(Settings(max_concurrency=8), Metrics())
    decode, lock, running_now, most = decoder._sandbox.decode, threading.Lock(), 0, 0

    def counted(*arguments):
        nonlocal running_now, most
        with lock:
            running_now += 1
            most = max(most, running_now)
        time.sleep(0.1)
        try:
            return decode(*arguments)
        finally:
            with lock:
                running_now -= 1

    monkeypatch.setattr(decoder._sandbox, "decode", counted)
    photo = encoded(PLAIN.resize((60, 60)), "WEBP", lossless=True, method=0)
    with ThreadPoolExecutor(8) as threads:
        decoded = list(threads.map(lambda _: decoder.read(photo, 32, "squash"), range(16)))
    assert len(decoded) == 16
    assert most == 3  # of 64 MB each, beside the service and the uploads
