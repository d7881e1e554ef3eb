"""Downloads from a real HTTP server that redirects, stalls, fails and cuts off."""

import hashlib
import http.server
import threading
import time
from types import SimpleNamespace

import pytest

from app import model_source
from app.model_source import ModelSourceError, fetch, redact
from app.settings import Settings
from tests.app.service import fails, running
from tests.app.test_predict import RED_JPEG


class Releases(http.server.BaseHTTPRequestHandler):
    """Serves one model file in several ways; `seen` are the paths with their Authorization."""

    model: bytes
    seen: list[tuple[str, str | None]]
    gate: threading.Event

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.seen.append((path, self.headers.get("Authorization")))
        match path:
            case "/redirect":  # another host, as a browser sees it
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{self.server.server_port}/model.pt")
                self.end_headers()
            case "/loop":
                self.send_response(302)
                self.send_header("Location", "/loop")
                self.end_headers()
            case "/model.pt":
                self.answer(len(self.model), self.model)
            case "/slow":
                self.answer(len(self.model), self.model[:100])
                self.wfile.flush()
                self.gate.wait(15)
                self.wfile.write(self.model[100:])
            case "/cut":
                self.answer(len(self.model), self.model[:-10])
            case "/cut-once" if len(self.seen) == 1:
                self.answer(len(self.model), self.model[:-10])
            case "/busy-once" if len(self.seen) == 1:
                self.send_error(503)
            case "/cut-once" | "/busy-once":
                self.answer(len(self.model), self.model)
            case "/busy":
                self.send_error(500)
            case _:
                self.send_error(404)

    def answer(self, length: int, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def releases(make_model, tmp_path):
    model = make_model().read_bytes()
    handler = type("Handler", (Releases,), {"model": model, "seen": [], "gate": threading.Event()})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield SimpleNamespace(
            url=f"http://127.0.0.1:{server.server_port}",
            seen=handler.seen,
            gate=handler.gate,
            model=model,
            cache=tmp_path / "cache",
        )
        handler.gate.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(model_source, "_PAUSE_S", 0.01)


def settings(releases, path: str, **others: object) -> Settings:
    return Settings(model_url=releases.url + path, model_cache_dir=releases.cache, **others)


def leftovers(releases) -> list[str]:
    return [path.name for path in releases.cache.iterdir() if path.suffix != ".pt" or path.name[0] == "."]


def test_a_download_is_stored_whole(releases):
    pin = hashlib.sha256(releases.model).hexdigest()
    file = fetch(settings(releases, "/model.pt", model_sha256=pin))
    assert file.path.read_bytes() == releases.model
    assert file.path.parent == releases.cache
    assert file.download_seconds > 0
    assert leftovers(releases) == []


def test_the_token_stays_with_its_host(releases, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"  # a person's netrc must neither replace the token nor follow the redirect
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    fetch(settings(releases, "/redirect", model_token="t0ken"))
    assert releases.seen == [("/redirect", "Bearer t0ken"), ("/model.pt", None)]


@pytest.mark.parametrize("path", ["/cut-once", "/busy-once"])
def test_a_passing_failure_is_tried_again(releases, path):
    assert fetch(settings(releases, path)).path.read_bytes() == releases.model
    assert len(releases.seen) == 2


@pytest.mark.parametrize(
    ("path", "message", "attempts"),
    [
        ("/none", "404", 1),
        ("/busy", "500", 3),
        ("/cut", "connection broke", 3),
        ("/loop", "TooManyRedirects", 31),
    ],
)
def test_a_lasting_failure_is_one_line_without_secrets(releases, path, message, attempts):
    url = releases.url.replace("//", "//user:hidden@") + f"{path}?key=hidden"
    with pytest.raises(ModelSourceError, match=message) as caught:
        fetch(Settings(model_url=url, model_cache_dir=releases.cache))
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(releases.seen) == attempts
    assert list(releases.cache.iterdir()) == []


def test_a_wrong_pin_leaves_no_file(releases):
    with pytest.raises(ModelSourceError, match="MODEL_SHA256 pins 000"):
        fetch(settings(releases, "/model.pt", model_sha256="0" * 64))
    assert list(releases.cache.iterdir()) == []


def test_a_stall_and_a_server_that_is_not_there(releases, monkeypatch):
    monkeypatch.setattr(model_source, "_TIMEOUT_S", (1.0, 0.1))
    with pytest.raises(ModelSourceError, match="broke or stalled"):
        fetch(settings(releases, "/slow"))
    nowhere = Settings(model_url="http://127.0.0.1:9/model.pt", model_cache_dir=releases.cache)
    with pytest.raises(ModelSourceError, match="no connection"):
        fetch(nowhere)


def test_a_download_without_end_is_given_up(releases, monkeypatch):
    monkeypatch.setattr(model_source, "MAX_MODEL_BYTES", 100)
    with pytest.raises(ModelSourceError, match="larger than 100 bytes"):
        fetch(settings(releases, "/model.pt"))
    assert list(releases.cache.iterdir()) == []


def test_a_cache_that_cannot_be_written(releases, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelSourceError, match="MODEL_CACHE_DIR"):
        fetch(Settings(model_url=f"{releases.url}/model.pt", model_cache_dir=tmp_path / "file" / "cache"))


def test_a_local_file_is_used_where_it_lies(make_model):
    path = make_model("a b.pt")
    pin = hashlib.sha256(path.read_bytes()).hexdigest()
    file = fetch(Settings(model_url=path.as_uri(), model_sha256=pin))
    assert (file.path, file.download_seconds) == (path, None)


def test_redact():
    assert redact("https://u:p@host:1/a/b.pt?x=y#z") == "https://host:1/a/b.pt"


def test_health_answers_while_the_model_is_on_its_way(releases):
    with running(MODEL_URL=f"{releases.url}/slow?key=hidden", MODEL_CACHE_DIR=str(releases.cache)) as service:
        service.wait("/health")
        status, body = service.get("/ready")
        assert status == 503
        assert "being loaded" in body["detail"]
        assert service.predict(RED_JPEG)[0] == 503
        releases.gate.set()
        service.wait()
        assert service.predict(RED_JPEG)[1]["label"] == "red"
        code, output, _ = service.end()
    assert code == 0
    assert "hidden" not in output


def test_a_stop_during_a_download_is_clean(releases):
    with running(MODEL_URL=f"{releases.url}/slow", MODEL_CACHE_DIR=str(releases.cache)) as service:
        service.wait("/health")
        began = time.perf_counter()
        assert service.end()[0] == 0
        assert time.perf_counter() - began < 5


def test_a_download_that_fails_for_good_ends_the_process(releases):
    url = releases.url.replace("//", "//user:hidden@") + "/none?key=hidden"
    error = fails(1, MODEL_URL=url, MODEL_CACHE_DIR=str(releases.cache), LOG_LEVEL="debug")
    assert "404" in error
    assert "hidden" not in error
