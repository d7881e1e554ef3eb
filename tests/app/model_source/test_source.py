"""The source of the model: cache, digests, other processes, failing disks."""

import contextlib
import hashlib
import json
import logging
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from app.model_source import source as model_source
from app.model_source.cache import Cache
from app.model_source.source import ModelSourceError
from app.settings import Settings
from scripts.common.process import free_port
from tests.app.routes.test_predict import RED_JPEG
from tests.helpers.http_server import file_server
from tests.helpers.model_server import FAST, MODEL, OTHER, SIZE, Answer, ModelServer, archive, get, impatient
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, fails, running
from tests.helpers.waiting import HANG_S, until

DATE = "Mon, 23 Nov 2026 10:00:00 GMT"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def models(cache: Path) -> set[str]:
    return {path.name for path in cache.glob("*.pt")}


def test_a_local_file_is_used_where_it_is(make_model):
    path = make_model("a b.pt")
    file = model_source.fetch(Settings(model_url=path.as_uri(), model_sha256=sha256(path.read_bytes())))
    assert (file.path, file.download_seconds) == (path, None)


# The cache


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"1"'}], ids=["tag", "weak tag"])
def test_a_cached_model_is_not_downloaded_again(server, cache, headers):
    server.answers["/model.pt"] = [Answer(headers=headers)]
    get(server, cache)
    file = get(server, cache)
    assert (file.path.read_bytes(), file.download_seconds) == (MODEL, None)
    assert len(server.requests()) == 2
    assert server.sent() == SIZE


def test_an_older_file_that_is_put_back_is_noticed_without_a_tag(tmp_path, cache):
    """A server that knows only dates says that a file from before has not been modified since."""
    with file_server(tmp_path) as server:
        for day, content in ((2, OTHER), (1, MODEL)):
            (tmp_path / "model.pt").write_bytes(content)
            os.utime(tmp_path / "model.pt", (day * 86_400, day * 86_400))
            assert get(server, cache).path.read_bytes() == content


def test_a_cached_and_pinned_model_needs_no_request(server, cache):
    get(server, cache)
    server.seen.clear()
    file = get(server, cache, model_sha256=sha256(MODEL))
    assert (file.path.read_bytes(), file.download_seconds) == (MODEL, None)
    assert server.seen == []


def test_an_unchanged_file_with_another_digest_than_the_pin_is_rejected(server, cache):
    get(server, cache)
    with pytest.raises(ModelSourceError, match="MODEL_SHA256 is 000"):
        get(server, cache, model_sha256="0" * 64)
    assert "if-none-match" not in server.requests()[-1].headers


def test_the_cache_describes_its_content_without_secrets(server, cache):
    url = server.url.replace("//", "//user:hidden@") + "/model.pt?key=hidden"
    model_source.fetch(Settings(model_url=url, model_token="hidden", model_cache_dir=cache))
    (note,) = cache.glob("*.json")
    assert note.stem == sha256(f"{server.url}/model.pt?key=hidden".encode())[:16]
    content = json.loads(note.read_text())
    assert content.pop("stored") > 0
    assert content == {
        "etag": f'"{sha256(MODEL)[:8]}"',
        "last_modified": None,
        "sha256": sha256(MODEL),
        "size": SIZE,
    }
    assert all(b"hidden" not in path.read_bytes() for path in cache.iterdir())


@pytest.mark.parametrize("damage", [b"", MODEL[:-1], b"x" + MODEL[1:], None])
def test_a_damaged_copy_is_downloaded_again(server, cache, damage, caplog):
    path = get(server, cache).path
    path.unlink() if damage is None else path.write_bytes(damage)
    assert get(server, cache).path.read_bytes() == MODEL
    assert "if-none-match" not in server.requests()[1].headers
    assert ("damaged" in caplog.text) == (damage is not None)


@pytest.mark.parametrize("note", ["", "[]", "{", '{"sha256": 1, "etag": 2}', "\xff"])
def test_a_damaged_note_is_ignored(server, cache, note):
    get(server, cache)
    (path,) = cache.glob("*.json")
    path.write_text(note, "latin-1")
    assert get(server, cache).download_seconds > 0


def test_the_current_and_the_previous_file_are_kept(server, cache):
    contents = [archive(seed, 10_000) for seed in range(4)]
    for number, content in enumerate(contents):
        server.files["/model.pt"] = content  # a release that is replaced
        assert get(server, cache).path.read_bytes() == content
        assert models(cache) == {f"{sha256(kept)}.pt" for kept in contents[max(0, number - 1) : number + 1]}
        time.sleep(0.01)
    server.files["/new/model.pt"] = MODEL  # and one with a name of its own
    get(server, cache, "/new/model.pt")
    assert models(cache) == {f"{sha256(kept)}.pt" for kept in (contents[-1], MODEL)}
    get(server, cache)
    assert server.requests()[-1].sent == 0


def test_the_previous_file_is_the_one_that_was_used_last(server, cache):
    contents = {f"/{seed}/model.pt": archive(seed, 10_000) for seed in range(3)}
    server.files |= contents
    first, second, third = contents
    for path in (first, second, first, third):
        get(server, cache, path)
        time.sleep(0.01)
    assert models(cache) == {f"{sha256(contents[path])}.pt" for path in (first, third)}


def test_leftovers_are_removed_and_foreign_files_stay(server, cache):
    cache.mkdir()
    key = "0123456789abcdef"
    left = [f"{key}.part", f"{key}.part.json", f"{key}.lock", f"{key}.json.12.tmp", f"{key * 2}.part"]
    theirs = ["notes.json", "photo.part", "model.pt", "x.lock", f"{key}.txt"]
    for name in left + theirs:
        (cache / name).write_text("{}")
        os.utime(cache / name, (time.time() - 2 * 86400,) * 2)
    (cache / f"{key[::-1]}.part").touch()  # another process's, just now
    get(server, cache)
    names = {path.name for path in cache.iterdir()}
    assert not names & set(left)
    assert {*theirs, f"{key[::-1]}.part"} <= names
    assert len(names) == len(theirs) + 4  # with a model, its note, and its lock


def test_an_unusable_file_is_downloaded_again_at_the_next_start(server, cache):
    fails(1, MODEL_URL=f"{server.url}/model.pt", MODEL_CACHE_DIR=str(cache))  # a ZIP, but no more
    assert list(cache.glob("*.json")) == []


# Digests


@pytest.mark.parametrize(
    "content", [f"{sha256(MODEL)}  model.pt\n", f"\\{sha256(MODEL)} *a\\\\b\n", sha256(MODEL).upper()]
)
def test_a_published_digest_is_compared(server, cache, content):
    server.files["/model.pt.sha256"] = content.encode()
    get(server, cache, "/model.pt?key=1")
    assert server.paths() == ["/model.pt?key=1", "/model.pt.sha256?key=1"]  # the query may authorize both
    server.files["/model.pt"] = OTHER
    with pytest.raises(ModelSourceError, match=r"model\.pt\.sha256 says") as caught:
        get(server, cache, "/model.pt?key=1")
    assert "key" not in str(caught.value)
    assert models(cache) == {f"{sha256(MODEL)}.pt"}
    server.seen.clear()
    server.files["/model.pt"] = MODEL  # it refused for good, and took nothing of it into the cache
    assert get(server, cache, "/model.pt?key=1").download_seconds is None


def test_a_connection_that_breaks_once_does_not_hide_the_published_digest(server, cache):
    server.files["/model.pt.sha256"] = b"0" * 64
    server.answers["/model.pt.sha256"] = [Answer(stop=10), Answer()]
    with pytest.raises(ModelSourceError, match=r"model\.pt\.sha256 says"):
        get(server, cache)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_missing_digest_is_no_error(server, cache, status):
    server.answers["/model.pt.sha256"] = [Answer(status)]
    assert get(server, cache).path.read_bytes() == MODEL
    assert len(server.requests("/model.pt.sha256")) == 1


UNREADABLE = {
    "401": (Answer(401), "answered 401"),
    "500": (Answer(500), "answered 500"),
    "rate limit": (Answer(403, {"X-RateLimit-Remaining": "0"}), "a rate limit"),
    "cut": (Answer(stop=10), "broke"),
    "stall": (Answer(stall=0), "in time"),
    "trickle": (Answer(trickle=0.01), "(too slowly|in time)"),
    "slow header": (Answer(slow_header=True), "in time"),
}


@pytest.mark.parametrize(("answer", "message"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("earlier", [False, True], ids=["first start", "earlier copy"])
def test_a_digest_that_cannot_be_read_is_an_error(server, cache, answer, message, earlier, monkeypatch):
    if earlier:
        get(server, cache)
        server.files["/model.pt"] = OTHER
    if answer.trickle or answer.slow_header or answer.stall is not None:
        monkeypatch.setattr("ml.model.download._DIGEST_FILE_S", 1.0)
    server.files["/model.pt.sha256"] = (b"" if answer.trickle is None else b"0" * 40) + b"0" * 100_000
    if answer.trickle:
        monkeypatch.setattr("ml.model.download._DIGEST_FILE_BYTES", 100_000)
    server.answers["/model.pt.sha256"] = [answer]
    if earlier and answer.status != 401:  # may pass, so the copy from an earlier start serves
        file = get(server, cache)
        assert (file.path.read_bytes(), file.stale) == (MODEL, True)
        return
    with pytest.raises(ModelSourceError, match=rf"its \.sha256 file cannot be read: .*{message}") as caught:
        get(server, cache)
    assert str(caught.value).isprintable()
    assert models(cache) == ({f"{sha256(MODEL)}.pt"} if earlier else set())


@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"0" * 63, b"0" * 128, b"SHA256 (model.pt) = 00", b"\xff" * 64]
)
def test_a_file_without_a_digest_is_an_error(server, cache, content):
    server.files["/model.pt.sha256"] = content
    server.answers["/model.pt.sha256"] = [Answer(ranges=False)]
    with pytest.raises(ModelSourceError, match=r"its \.sha256 file holds no SHA-256; .* MODEL_SHA256"):
        get(server, cache)
    assert models(cache) == set()
    assert get(server, cache, model_sha256=sha256(MODEL)).path.read_bytes() == MODEL  # a pin replaces it


@pytest.mark.parametrize("pin", [True, False])
def test_a_stale_proxy_cache_gets_a_second_request(server, cache, pin):
    def renew() -> None:
        server.files["/model.pt"] = MODEL

    server.files["/model.pt"] = OTHER
    server.files["/model.pt.sha256"] = sha256(MODEL).encode()
    server.answers["/model.pt"] = [Answer(), Answer(before=renew)]
    assert get(server, cache, model_sha256=sha256(MODEL) if pin else None).path.read_bytes() == MODEL
    first, second = server.requests()
    assert "cache-control" not in first.headers
    assert second.headers["cache-control"] == "no-cache"
    assert len(server.requests("/model.pt.sha256")) == (0 if pin else 2)


def test_a_wrong_pin_fails_after_a_second_download(server, cache):
    with pytest.raises(ModelSourceError, match=f"has SHA-256 {sha256(MODEL)}, but MODEL_SHA256 is 000"):
        get(server, cache, model_sha256="0" * 64)
    assert server.paths() == ["/model.pt"] * 2
    assert {path.suffix for path in cache.iterdir()} == {".lock"}


# What can't be reached or written


@pytest.mark.parametrize(
    "answer",
    [
        Answer(503),
        Answer(429),
        Answer(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9999999999"}),
        Answer(stall=0),
        Answer(stop=100),
        Answer(slow_header=True),
        None,
    ],
)
def test_an_earlier_copy_is_used_if_the_server_fails(server, cache, answer, caplog):
    get(server, cache)
    server.files["/model.pt"] = OTHER
    server.answers["/model.pt"] = [answer or Answer()]
    if answer is None:
        server._server.server_close()
    failures = []
    policy = impatient(read_s=0.4, answer_s=0.8)
    file = get(server, cache, policy=policy, failed=lambda: failures.append(None))
    assert (file.path.read_bytes(), file.download_seconds) == (MODEL, None)
    assert file.stale
    assert failures == [None] * 3
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert f"can't download {server.url}/model.pt: " in warning.message
    assert "using the copy" in warning.message


def test_with_an_earlier_copy_the_download_gives_up_after_three_attempts(server, cache):
    get(server, cache)
    server.answers["/model.pt"] = [Answer(503)]
    get(server, cache, policy=None)
    assert len(server.requests()) == 1 + 3


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_model_that_was_withdrawn_is_not_served_from_the_cache(server, cache, status):
    get(server, cache)
    server.answers["/model.pt"] = [Answer(status)]
    with pytest.raises(ModelSourceError, match=f"answered {status}"):
        get(server, cache)


def test_a_folder_that_cannot_be_created(server, tmp_path):
    (tmp_path / "file").touch()
    message = r"can't write the model to .*/file/cache \(MODEL_CACHE_DIR\): Not a directory"
    with pytest.raises(ModelSourceError, match=message):
        get(server, tmp_path / "file" / "cache")


def test_a_disk_that_is_full(server, cache):
    server.files["/model.pt"] = archive(1, 3_000_000)
    # A limit on the size of files stands for the end of the disk: both fail in the middle of writing.
    command = ["sh", "-c", f"ulimit -f 2000; exec {sys.executable} -m app"]
    env = {"MODEL_URL": f"{server.url}/model.pt", "MODEL_CACHE_DIR": str(cache), "PORT": str(free_port())}
    shown = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=HANG_S)
    assert shown.returncode == 1
    assert shown.stderr == f"error: can't write the model to {cache} (MODEL_CACHE_DIR): File too large\n"
    assert {path.suffix for path in cache.iterdir()} == {".lock"}


def test_on_a_read_only_disk_the_earlier_copy_is_used(server, cache, caplog):
    get(server, cache)
    server.files["/model.pt"] = OTHER
    (blocked,) = (path.with_suffix(".part") for path in cache.glob("*.json"))
    blocked.mkdir()
    assert get(server, cache).path.read_bytes() == MODEL
    assert "can't write the model" in caplog.text


# Other processes


def test_without_locks_each_downloads_for_itself(server, cache):
    cache.mkdir()
    Cache(cache, f"{server.url}/model.pt")._note.with_suffix(".lock").mkdir()  # so that it can't be opened
    server.answers["/model.pt"] = [Answer(stop=SIZE // 2), Answer()]
    assert get(server, cache).path.read_bytes() == MODEL
    assert server.sent() == SIZE
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".lock", ".pt"]
    assert get(server, cache).download_seconds is None
    server.answers["/model.pt"] = [Answer(stop=100)]
    server.files["/model.pt"] = OTHER
    assert get(server, cache).path.read_bytes() == MODEL
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".lock", ".pt"]  # no one's to resume


@pytest.mark.parametrize("headers", [{}, {"ETag": None}], ids=["tag", "no tag"])
@pytest.mark.parametrize("pin", [None, sha256(MODEL)], ids=["", "pin"])
def test_a_process_that_waited_does_not_download(server, cache, headers, pin):
    waiting = set()  # threads
    all_wait = Answer(headers=headers, before=lambda: until(lambda: len(waiting) == 3))
    server.answers["/model.pt"] = [all_wait]
    settings = Settings(model_url=f"{server.url}/model.pt", model_cache_dir=cache, model_sha256=pin)
    files = []

    def report(text: str) -> None:
        if "another process" in text:
            waiting.add(threading.get_ident())

    threads = [
        threading.Thread(target=lambda: files.append(model_source.fetch(settings, report, FAST)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(files) == 4
    assert len(server.requests()) == 1
    assert sum(file.download_seconds is not None for file in files) == 1


def padded(model: Path) -> bytes:
    """A model that works, large enough for a progress report."""
    with zipfile.ZipFile(model, "a") as file:
        (root,) = {name.partition("/")[0] for name in file.namelist()}
        file.writestr(f"{root}/extra/padding", bytes(1_000_000))
    return model.read_bytes()


@pytest.fixture
def slow(server, make_model) -> ModelServer:
    """A server that sends half of a model, and the rest when the gate opens."""
    server.files["/model.pt"] = content = padded(make_model())
    server.answers["/model.pt"] = [Answer(stall=len(content) // 2 + 1)]
    return server


def env(server: ModelServer, cache: Path, **others: str) -> dict[str, str]:
    return {"MODEL_URL": f"{server.url}/model.pt?key=hidden", "MODEL_CACHE_DIR": str(cache)} | others


def wait_for_detail(service: Service, text: str) -> str:
    details = [""]

    def said() -> bool:
        with contextlib.suppress(OSError):
            status, body = service.get("/ready")
            assert status == 503
            details.append(body["detail"])
        return text in details[-1]

    until(said)
    return details[-1]


def download_seconds(service: Service) -> float:
    lines = service.metrics().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("model_download_seconds "))


def test_ready_shows_the_progress_of_the_download(slow, cache):
    with running(**env(slow, cache)) as service:
        assert wait_for_detail(service, "50 %)") == "downloading the model: 0.5 of 1.0 MB (50 %)"
        assert service.get("/health")[0] == 200
        assert service.predict(RED_JPEG)[0] == 503
        slow.gate.set()
        service.wait()
        assert service.predict(RED_JPEG)[1]["label"] == "red"
        assert 0 < download_seconds(service) < time.perf_counter() - service.started
        code, output, error = service.end()
    assert (code, error) == (0, "")
    assert "hidden" not in output
    with running(**env(slow, cache)) as service:
        service.wait()
        assert download_seconds(service) == 0
    assert slow.sent() == len(slow.files["/model.pt"])


def test_two_processes_share_one_download(slow, cache):
    with running(**env(slow, cache)) as first, running(**env(slow, cache)) as second:
        states = {"50 %", "another process"}

        def all_said() -> bool:
            for service in (first, second):
                with contextlib.suppress(OSError):
                    detail = service.get("/ready")[1]["detail"]
                    states.difference_update([state for state in states if state in detail])
            return not states

        until(all_said)
        slow.gate.set()
        first.wait()
        second.wait()
        assert second.predict(RED_JPEG)[1]["label"] == "red"
    assert slow.sent() == len(slow.files["/model.pt"])
    assert len(slow.requests()) == 1


def test_a_killed_download_does_not_block_and_is_resumed(slow, cache):
    size = len(slow.files["/model.pt"])
    with running(**env(slow, cache)) as service:
        wait_for_detail(service, "50 %)")
        service.end(signal.SIGKILL)
    slow.answers["/model.pt"] = [Answer()]
    with running(**env(slow, cache)) as service:
        service.wait()
    assert 0.4 * size < slow.requests()[1].sent < 0.6 * size


def test_a_stop_during_a_download_is_clean(slow, cache):
    with running(**env(slow, cache)) as service:
        wait_for_detail(service, "50 %)")
        assert service.end()[0] == 0


def test_a_permanent_failure_of_the_download_ends_the_process(server, cache):
    url = server.url.replace("//", "//user:hidden@") + "/none?key=hidden"
    error = fails(1, MODEL_URL=url, MODEL_CACHE_DIR=str(cache), MODEL_TOKEN="hidden", LOG_LEVEL="debug")
    assert error == f"error: can't download {server.url}/none: 127.0.0.1 answered 404\n"


def test_a_pinned_copy_imports_no_downloader(server, cache):
    get(server, cache)
    code = (
        "import sys; from pathlib import Path; from app.model_source import source as model_source; "
        "from app.settings import Settings; "
        "model_source.fetch(Settings(model_url=sys.argv[1], model_cache_dir=Path(sys.argv[2]), "
        "model_sha256=sys.argv[3])); print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, f"{server.url}/model.pt", str(cache), sha256(MODEL)]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"requests", "urllib3"} & set(shown.stdout.split())


def test_a_malformed_header_does_not_put_the_secret_url_in_the_log(make_model, cache):
    """urllib3 would warn about it, with the whole URL."""
    model = make_model().read_bytes()

    class Malformed(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            if b"/model.pt?" not in line:  # the digest beside it
                self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                return
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nno header\r\n\r\n" % len(model))
            self.wfile.write(model)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Malformed) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/model.pt?key=hidden"
            with running(MODEL_URL=url, MODEL_CACHE_DIR=str(cache)) as service:
                service.wait()
                code, output, error = service.end()
        finally:
            server.shutdown()
    assert (code, error) == (0, "")
    assert "model loaded" in output
    assert "hidden" not in output
