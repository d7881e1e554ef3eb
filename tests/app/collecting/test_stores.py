"""Stores that are slow, broken or dead cost no answer and no memory; what is dropped is counted."""

import contextlib
import logging
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.exceptions import FSTimeoutError

from app.collecting import writer
from app.collecting.limits import DailyLimits
from app.collecting.writer import Writer
from app.inference.decoding import Decoder
from app.settings import Settings
from app.telemetry.metrics import Metrics
from ml.collected.store import Collected
from ml.model import kept_photos
from ml.model.host import available_cpus
from ml.model.kept_photos import Record
from tests.app.collecting.conftest import KeepingService
from tests.app.collecting.test_collecting import UNKNOWN
from tests.conftest import coloured, encode
from tests.helpers.graphs import GREEN, write_telling
from tests.helpers.paths import ROOT
from tests.helpers.s3 import bucket
from tests.helpers.service import Service, fails, running
from tests.helpers.waiting import HANG_S, until
from tests.standins import gcs

needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
KEEP = "/predict?keep=1"


@contextlib.contextmanager
def hanging_folder(folder: Path) -> Iterator[None]:
    """A folder in which the first file that this process writes is never written."""
    folder.mkdir()
    pipe = folder / f".{writer._TRIAL}.{os.getpid()}.part"
    os.mkfifo(pipe)
    try:
        yield
    finally:  # the thread goes on once somebody reads, and must not report an error in the next test
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        until(lambda: all(thread.name != writer.THREAD for thread in threading.enumerate()))
        os.close(reader)


@needs_fifo
def test_a_store_that_hangs_costs_no_answer_and_no_memory(keeping: KeepingService, tmp_path: Path) -> None:
    photo = encode(coloured(GREEN, 300, 300))
    with hanging_folder(tmp_path / "dead"), keeping(str(tmp_path / "dead")) as service:
        for number in range(1, 100):
            assert service.predict(photo)["label"] == "unknown"
            waits = service.collector._writer
            assert waits is not None
            assert len(waits._queue) == min(number, 64)
            assert waits._bytes == min(number, 64) * len(photo)
        assert service.dropped("queue_full") == 99 - 64
        service.collector.stop()  # returns, although the thread doesn't end
        assert service.dropped("stopping") == 64
        service.predict(photo)
        assert service.dropped("stopping") == 65
        assert service.kept("unknown") == 0


@needs_fifo
def test_the_bytes_that_wait_are_limited(keeping: KeepingService, tmp_path: Path) -> None:
    with hanging_folder(tmp_path / "dead"), keeping(str(tmp_path / "dead")) as service:
        waits = service.collector._writer
        assert waits is not None
        waits._max_bytes = int(2.5 * len(UNKNOWN))
        for _ in range(4):
            service.predict(UNKNOWN)
        assert (len(waits._queue), service.dropped("queue_full")) == (2, 2)


def test_a_broken_store_is_reported_once_and_used_again_when_it_works(
    keeping: KeepingService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "kept"
    file.write_text("not a folder")
    with caplog.at_level(logging.WARNING, "app.collecting"), keeping(str(file)) as service:
        for count in (1, 2):
            service.predict(UNKNOWN)
            until(lambda count=count: service.dropped("store") == count)
        (message,) = [record.getMessage() for record in caplog.records]
        assert "COLLECT_TO can't be written to" in message
        assert "\n" not in message
        file.unlink()
        answer = service.predict(UNKNOWN)
        service.settle()
        assert [record.request_id for record in service.records()] == [answer["request_id"]]


def test_no_record_is_written_without_its_photo() -> None:
    record = Record("0" * 32, "a", "2026-11-27T14:03:22Z", ("random",), 0.1, {}, {})

    class Failing:
        def __init__(self, suffix: str) -> None:
            self.suffix, self.written = suffix, list[str]()

        def write(self, path: str, content: bytes) -> None:
            if path.endswith(self.suffix):
                raise OSError
            self.written.append(path)

        def read(self, path: str) -> bytes:
            raise FileNotFoundError(path)

    for suffix, written in ((".jpg", []), (".json", [record.photo_path])):
        store = Failing(suffix)
        with pytest.raises(OSError):  # noqa: PT011
            kept_photos.keep(store, record, b"")
        assert store.written == written


def test_the_writer_takes_a_small_share_of_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = DailyLimits(1, 1, 1, False)
    decoder = Decoder(Settings(), Metrics())
    idle = Writer("nowhere", 1, Metrics(), limits, decoder, lambda: False, lambda: None)
    busy = Writer("nowhere", 1, Metrics(), limits, decoder, lambda: True, lambda: None)
    now = [0.0]

    def wait(seconds: float) -> bool:
        now[0] += seconds
        return False

    monkeypatch.setattr(writer.time, "monotonic", lambda: now[0])
    for resting in (idle, busy):
        monkeypatch.setattr(resting._stopped, "wait", wait)
        resting._rest(0.3)
    assert 0.3 / now[0] == pytest.approx(0.002 * available_cpus(), rel=0.01)


def test_the_writer_goes_on_when_a_worker_is_free(keeping: KeepingService) -> None:
    busy = threading.Event()
    with keeping() as service:
        waits = service.collector._writer
        assert waits is not None
        busy.set()
        waits._busy = busy.is_set
        for _ in range(2):
            service.predict(UNKNOWN)
        resting = threading.Thread(target=waits._rest, args=(3600.0,))
        resting.start()
        busy.clear()  # a worker is free, so it goes on at once
        resting.join(HANG_S)
        assert not resting.is_alive()
        service.settle()
        assert service.kept("unknown") == 2


@contextlib.contextmanager
def google_bucket(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a bucket that a stand-in for Google Cloud Storage has."""
    with gcs.bucket() as photos:
        patch.setenv("STORAGE_EMULATOR_HOST", photos.url)
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # which needs gRPC and an account
        yield "gs://photos"


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_bucket(
    keeping: KeepingService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with contextlib.ExitStack() as stack:
        if scheme == "s3":
            address = stack.enter_context(bucket(tmp_path, monkeypatch)).url
        else:
            address = stack.enter_context(google_bucket(monkeypatch))
        service = stack.enter_context(keeping(f"{address}/live"))
        answer, other = service.predict(UNKNOWN), service.predict(UNKNOWN)
        service.feedback(answer, "red")
        service.settle()
        assert (service.kept("unknown"), service.dropped("store")) == (2, 0)
        store = Collected(service.address)
        records = {record.request_id: record for record in store.records()}
        assert records[answer["request_id"]].actual == "red"
        assert store.photo(records[other["request_id"]]).startswith(b"\xff\xd8")
        store.delete(records[other["request_id"]])
        assert [record.actual for record in store.records()] == ["red"]
        (day,) = store.days()
        assert store.delete_day(day) == 1
        assert list(store.records()) == []


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """A server that accepts connections, reads, and never answers; its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        connections = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connections.append(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


def test_a_write_to_a_bucket_that_never_answers_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_photos, "_TOTAL_S", 0.5)
    with silent_server() as port:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        fsspec.filesystem("s3").clear_instance_cache()
        store = kept_photos.open_store("s3://photos")
        for call in (lambda: store.write("a", b"x"), lambda: store.read("a")):
            with pytest.raises(FSTimeoutError):
                call()


def post(service: Service, photo: bytes) -> int:
    import urllib.request

    request = urllib.request.Request(
        f"http://127.0.0.1:{service.port}{KEEP}", photo, {"Content-Type": "image/jpeg"}
    )
    with urllib.request.urlopen(request, timeout=HANG_S) as response:
        return int(response.status)


def test_a_bucket_that_never_answers_delays_neither_answers_nor_the_end(tmp_path: Path) -> None:
    model = write_telling(tmp_path / "model.pt")
    with silent_server() as port:
        endpoint = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with running(MODEL_URL=model.as_uri(), COLLECT_TO="s3://photos/live", **endpoint) as service:
            service.wait()
            for _ in range(70):
                assert post(service, UNKNOWN) == 200
            dropped = re.search(r'photos_not_collected_total{reason="queue_full"} (\S+)', service.metrics())
            assert dropped
            assert float(dropped[1]) >= 5
            code, _, error = service.end()
    assert (code, error) == (0, "")


def test_a_killed_service_leaves_no_record_without_its_photo(tmp_path: Path) -> None:
    model = write_telling(tmp_path / "model.pt")
    folder = tmp_path / "kept"
    options = {"MODEL_URL": model.as_uri(), "COLLECT_TO": str(folder), "COLLECT_PHOTOS_PER_CLIENT": "1000"}
    photo = encode(coloured(GREEN, 1500, 1500))
    for killed in range(1, 4):
        with running(**options) as service:
            service.wait()
            before = len(list(folder.rglob("*.jpg")))
            for _ in range(20):
                assert post(service, photo) == 200
            until(lambda before=before, killed=killed: len(list(folder.rglob("*.jpg"))) >= before + killed)
            service.process.kill()
            service.process.wait(HANG_S)
        store = Collected(str(folder))
        for record in store.records(rejected=pytest.fail):
            store.photo(record)
    assert list(store.records())


def test_an_unusable_address_stops_the_start() -> None:
    assert "COLLECT_TO: must be a folder" in fails(2, COLLECT_TO="ftp://host/photos")


def test_a_missing_package_stops_the_start() -> None:
    code = (
        "import sys, importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name: None if name == 'gcsfs' else find(name)\n"
        "from app.__main__ import main; sys.exit(main([]))"
    )
    environ = {"PATH": os.environ["PATH"], "COLLECT_TO": "gs://photos", "HOST": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "requirements-collect.txt" in done.stderr
