"""Stores that are slow, broken or dead cost no answer and no memory; what is dropped is counted."""

import contextlib
import gc
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import fsspec
import pytest
from fsspec.exceptions import FSTimeoutError

from app.collecting import awaiting, writer
from app.collecting.awaiting import Candidate
from app.collecting.limits import DailyLimits
from app.collecting.writer import Writer
from app.inference.decoding import Decoder
from app.settings import Settings
from app.telemetry.metrics import Metrics
from ml.collected.store import Collected
from ml.model import kept_photos
from ml.model.host import available_cpus
from ml.model.kept_photos import Bucket, Folder, Record
from tests.app.collecting.conftest import KeepingService
from tests.app.collecting.test_collecting import SURE, UNKNOWN
from tests.conftest import coloured, encode
from tests.helpers.graphs import GREEN, write_telling
from tests.helpers.http_server import Handler, Server
from tests.helpers.paths import ROOT
from tests.helpers.s3 import bucket
from tests.helpers.service import Service, fails, running
from tests.helpers.waiting import HANG_S, until
from tests.standins import gcs

needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
KEEP = "/predict?keep=1"
ANSWER = 2 * awaiting._CLASS_BYTES  # of each waiting record


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
            assert waits._bytes == min(number, 64) * (len(photo) + ANSWER)
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
        waits._max_bytes = int(2.5 * (len(UNKNOWN) + ANSWER))
        for _ in range(4):
            service.predict(UNKNOWN)
        assert (len(waits._queue), service.dropped("queue_full")) == (2, 2)


@needs_fifo
def test_photos_are_forgotten_in_time_while_a_store_hangs(
    keeping: KeepingService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_TIDY_S", 0.01)
    with hanging_folder(tmp_path / "dead"), keeping(str(tmp_path / "dead")) as service:
        waits, candidates = service.collector._writer, service.collector._awaiting
        assert waits is not None
        answer = service.predict(UNKNOWN)
        service.feedback(answer, "red")
        service.predict(SURE)
        assert (len(waits._queue), waits._bytes, candidates._bytes) == (
            2,
            len(UNKNOWN) + 2 * ANSWER,
            len(SURE) + ANSWER,
        )
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + awaiting.MAX_AGE_S + 1)
        monkeypatch.setattr(awaiting, "time", later)
        until(lambda: (waits._bytes, candidates._bytes) == (ANSWER, 0))
        assert [candidate.photo for candidate in waits._queue] == [None]  # what feedback says
        until(lambda: service.dropped("queue_full") == 1)


def test_a_written_photo_does_not_stay_in_memory(keeping: KeepingService) -> None:
    with keeping() as service:
        request_id = service.predict(UNKNOWN)["request_id"]
        until(service.records)

        def held() -> bool:
            candidates = [each for each in gc.get_objects() if isinstance(each, Candidate)]
            return any(each.photo and each.record.request_id == request_id for each in candidates)

        until(lambda: not held())


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
        assert "COLLECT_TO can't be used" in message
        assert "\n" not in message
        file.unlink()
        answer = service.predict(UNKNOWN)
        service.settle()
        assert [record.request_id for record in service.records()] == [answer["request_id"]]


def test_feedback_is_counted_once_it_is_written(
    keeping: KeepingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError

    with keeping() as service:
        answer = service.predict(UNKNOWN)
        until(lambda: service.kept("unknown"))
        monkeypatch.setattr(Folder, "write", fail)
        service.feedback(answer, "red")
        service.settle()
        assert (service.kept("contradicted"), service.dropped("store")) == (0, 1)
        assert [record.actual for record in service.records()] == [None]


def test_a_store_that_fails_is_opened_again_but_not_for_each_photo(
    keeping: KeepingService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, opened = tmp_path / "kept", list[str]()

    def open_store(address: str) -> Folder:
        opened.append(address)
        return Folder(Path(address))

    monkeypatch.setattr(kept_photos, "open_store", open_store)
    with keeping(str(file)) as service:
        for count in (1, 2):
            service.predict(UNKNOWN)
            until(lambda count=count: service.kept("unknown") == count)
        assert len(opened) == 1
        monkeypatch.setattr(Folder, "write", Path.mkdir)  # fails
        for count in (1, 2, 3):
            service.predict(UNKNOWN)
            until(lambda count=count: service.dropped("store") == count)
        assert len(opened) == 2
        waits = service.collector._writer
        assert waits is not None
        waits._reopen_at = 0.0  # a minute later
        for count in (4, 5):
            service.predict(UNKNOWN)
            until(lambda count=count: service.dropped("store") == count)
        assert len(opened) == 3


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

        def remove(self, path: str) -> None:
            raise PermissionError(path)

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


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_photo_whose_record_can_not_be_written_is_removed_from_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    record = Record("0" * 32, "a", "2026-11-27T14:03:22Z", ("random",), 0.1, {}, {})

    class Failing(Bucket):
        def write(self, path: str, content: bytes) -> None:
            if path == record.path:
                assert self.read(record.photo_path) == b"photo"
                raise OSError("no room")
            super().write(path, content)

    with contextlib.ExitStack() as stack:
        if scheme == "s3":
            address = stack.enter_context(bucket(tmp_path, monkeypatch)).url
        else:
            address = stack.enter_context(google_bucket(monkeypatch))
        store = Failing(f"{address}/live")
        store.write("other", b"")
        with pytest.raises(OSError, match="no room"):
            kept_photos.keep(store, record, b"photo")
        with pytest.raises(FileNotFoundError):
            store.read(record.photo_path)


class KeyServer(Server):
    """A stand-in for S3 that takes what is signed with one access key, and notes the keys of all uploads."""

    def __init__(self, credentials: Path) -> None:
        super().__init__(type("_Bound", (_KeyHandler,), {"bucket": self}))
        self.accepted, self.keys, self.files = "", list[str](), dict[str, bytes]()
        self.may_read = True
        self._credentials = credentials

    def rotate(self, key: str) -> None:
        """Take only this key from now on, and write it to the file of credentials."""
        self.accepted = key
        self._credentials.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = x\n")


class _KeyHandler(Handler):
    protocol_version = "HTTP/1.1"
    bucket: KeyServer

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.bucket.keys.append(self._key())
        if self._key() == self.bucket.accepted:
            self.bucket.files[self.path] = content
            self.answer(headers={"ETag": '"x"'})
        else:
            self._reject(400, "ExpiredToken")

    def do_GET(self) -> None:
        if self._key() != self.bucket.accepted:
            self._reject(400, "ExpiredToken")
        elif not self.bucket.may_read:
            self._reject(403, "AccessDenied")
        else:
            self.answer(body=self.bucket.files[self.path])

    def _key(self) -> str:
        (key,) = re.findall("Credential=([A-Z]+)/", self.headers["Authorization"])
        return str(key)

    def _reject(self, status: int, code: str) -> None:
        self.answer(status, f"<Error><Code>{code}</Code><Message>It says why.</Message></Error>".encode())


@pytest.fixture
def rotating(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KeyServer]:
    """The bucket s3://photos. Its credentials are in a file that the service reads; the first key is OLD."""
    credentials = tmp_path / "credentials"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(writer, "_REOPEN_S", 0.0)
    with KeyServer(credentials) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.rotate("OLD")
        yield server


def test_rotated_credentials_are_used_without_a_restart(keeping: KeepingService, rotating: KeyServer) -> None:
    with keeping("s3://photos/live") as service:
        service.predict(UNKNOWN)
        until(lambda: service.kept("unknown") == 1)
        for count, key in enumerate(("NEW", "NEWER"), 1):
            rotating.rotate(key)
            service.predict(UNKNOWN)
            until(lambda count=count: service.dropped("store") == count)
            service.predict(UNKNOWN)
            until(lambda count=count: service.kept("unknown") == 1 + count)
    # With each key: the file that is written at the start, or nothing; photo and record; a photo that fails.
    assert rotating.keys == ["OLD"] * 4 + ["NEW"] * 3 + ["NEWER"] * 2


def test_feedback_uses_rotated_credentials_too(keeping: KeepingService, rotating: KeyServer) -> None:
    with keeping("s3://photos/live") as service:
        answers = [service.predict(UNKNOWN) for _ in range(3)]
        until(lambda: service.kept("unknown") == 3)
        rotating.rotate("NEW")
        service.feedback(answers[0], "red")
        until(lambda: service.dropped("store") == 1)
        service.feedback(answers[1], "red")
        until(lambda: service.kept("contradicted") == 1)
        rotating.may_read = False  # only to write: that is no failure
        service.feedback(answers[2], "red")
        service.settle()
        assert (service.kept("contradicted"), service.dropped("store")) == (1, 1)


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
