"""scripts/smoke_test.sh: passes a service that works, and says what is wrong with any other."""

import http.client
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import pytest

from app.settings import EMBEDDED
from ml.model import bundle
from ml.model.manifest import MAX_CLASSES
from tests.conftest import BLUE, RED, colour_graph, coloured, encode
from tests.helpers.http_server import Handler, Server
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, running
from tests.helpers.waiting import HANG_S

SCRIPT = ROOT / "scripts" / "smoke_test.sh"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


Change = Callable[[str, dict[str, str], Answer], Answer]


@dataclass
class Proxy:
    """A proxy that sends each request to the next service in turn, and changes the answers."""

    ports: list[int]
    change: Change = lambda _path, _headers, answer: answer
    before: Callable[[int], Answer | None] = lambda _number: None
    """Returns the answer to the request of that number, counted from 0; None: the service answers."""
    prefix: str = ""
    asked: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> str:
        self._server = Server(type("_Bound", (_Handler,), {"proxy": self})).start()
        return self._server.url + self.prefix

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        with self.lock:
            number, self.asked = self.asked, self.asked + 1
        if (early := self.before(number)) is not None:
            return early
        if not path.startswith(f"{self.prefix}/") or "//" in path:
            return Answer(404, {}, b"")
        path = path.removeprefix(self.prefix)
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.ports[number % len(self.ports)], timeout=HANG_S
        )
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        output = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        connection.close()
        return self.change(path, headers, output)


class _Handler(Handler):
    proxy: Proxy

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        answer = self.proxy.answer(self.command, self.path, headers, body)
        answer.headers.pop("content-length", None)  # of the body before its change
        self.answer(answer.status, answer.body, answer.headers)

    do_POST = do_GET  # noqa: N815


def smoke_test(url: str, **env: str) -> tuple[int, dict[str, str], str]:
    """Return the exit code, each check's message or "ok", and all output."""
    inherited = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    done = subprocess.run(
        [SCRIPT, url],
        cwd="/",
        env=inherited | {"WAIT_SECONDS": str(HANG_S)} | env,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    rows = {}
    for line in done.stdout.splitlines():
        name, separator, rest = line.partition(" ms  ")
        if separator:
            verdict, _, message = rest.partition("  ")
            rows[name[:20].strip()] = "ok" if verdict.strip() == "ok" else message.strip()
    return done.returncode, rows, done.stdout + done.stderr


def failures(url: str, **env: str) -> dict[str, str]:
    code, rows, output = smoke_test(url, **env)
    assert code == 1, output
    return {name: message for name, message in rows.items() if message != "ok"}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running(LOG_LEVEL="error") as service:
        service.wait()
        yield service


def url_of(service: Service) -> str:
    return f"http://127.0.0.1:{service.port}"


def test_a_service_that_works_passes(service: Service) -> None:
    model = service.get("/model")[1]
    code, rows, output = smoke_test(
        f"{url_of(service)}//", EXPECTED_VERSION=model["version"], EXPECTED_SHA256=model["sha256"].upper()
    )
    assert code == 0, output
    assert set(rows.values()) == {"ok"}
    before = ["ready", "health", "X-Request-ID", "model", "examples"]
    assert list(rows) == [*before, "cat", "dog", "text rejected", "half JPEG rejected", "metrics"]
    assert '"dog":0.99' in output
    assert output.endswith("all 10 checks passed\n")


def test_another_version_fails(service: Service) -> None:
    version = service.get("/model")[1]["version"]
    assert failures(url_of(service), EXPECTED_VERSION="7") == {"model": f"has version {version} instead of 7"}
    assert "instead of aaaa" in failures(url_of(service), EXPECTED_SHA256="a" * 64)["model"]


def test_api_key_is_used_and_not_shown(tmp_path: Path) -> None:
    key, token = "k\\e'y \"$1%s", "metrics-token"
    wrapper = tmp_path / "curl"
    wrapper.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >>{tmp_path}/seen\nexec {shutil.which("curl")} "$@"\n'
    )
    wrapper.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    seen: list[dict[str, str]] = []

    def note(path: str, headers: dict[str, str], answer: Answer) -> Answer:
        if path == "/metrics":
            seen.append(headers)
        return answer

    with running(LOG_LEVEL="error", API_KEYS=f"{key},other") as service:
        service.wait()
        with Proxy([service.port], change=note) as url:
            code, rows, output = smoke_test(url, API_KEY=key, METRICS_TOKEN=token, PATH=path)
        assert code == 0, output
        assert rows["wrong key rejected"] == "ok"
        assert all(headers["authorization"] == f"Bearer {token}" for headers in seen)
        arguments = (tmp_path / "seen").read_text()
        assert "/predict" in arguments
        for secret in (key, token):
            assert secret not in arguments + output
        without = failures(url_of(service))
        assert without["cat"] == without["dog"] == "answers 401: is API_KEY set and right?"
    with running(LOG_LEVEL="error") as service:  # open to all
        service.wait()
        assert "answers 200 instead of 401" in failures(url_of(service), API_KEY=key)["wrong key rejected"]


def default_twin() -> tuple[bytes, int]:
    content = bundle.read(EMBEDDED)
    return content.onnx, content.manifest.image_size


def test_swapped_classes_fail(make_model: Callable[..., Path]) -> None:
    graph, size = default_twin()
    model = make_model(graph=graph, image_size=size, classes=["dog", "cat"])
    with running(LOG_LEVEL="error", MODEL_URL=model.as_uri()) as service:
        service.wait()
        message = failures(url_of(service))
    assert set(message) == {"cat", "dog"}
    assert message["cat"].startswith("is classified as 'dog'")
    assert message["dog"].startswith("is classified as 'cat'")


def test_a_model_at_chance_fails(make_model: Callable[..., Path]) -> None:
    graph = onnx.load_from_string(colour_graph())
    (weights,) = [tensor for tensor in graph.graph.initializer if tensor.name == "weights"]
    weights.raw_data = bytes(len(weights.raw_data))
    model = make_model(graph=graph.SerializeToString(), classes=["cat", "dog"])
    with running(LOG_LEVEL="error", MODEL_URL=model.as_uri()) as service:
        service.wait()
        message = failures(url_of(service))
    assert message["cat"].startswith("its probability is only 0.5")
    assert message["dog"].startswith("is classified as 'cat'")
    assert set(message) == {"cat", "dog"}


NAMES = ('"} red: {\\, "label":"blue",  ', "\N{CAT} 50 % (blue)")
"""A class may have any name."""
PHOTOS = {"0.0": encode(coloured(RED)), "1.0": encode(coloured(BLUE))}


def ends(model: Path, **env: str) -> tuple[int, dict[str, str], str]:
    with running(LOG_LEVEL="error", MODEL_URL=model.as_uri()) as service:
        service.wait()
        return smoke_test(url_of(service), **env)


def test_a_model_of_other_classes_is_checked_with_its_own_examples(make_model: Callable[..., Path]) -> None:
    code, rows, output = ends(make_model(classes=NAMES, examples=PHOTOS))
    assert code == 0, output
    assert set(rows.values()) == {"ok"}
    assert len(rows) == 10
    assert output.endswith("all 10 checks passed\n")


def test_a_wrong_answer_to_an_example_fails(make_model: Callable[..., Path]) -> None:
    model = make_model(classes=NAMES, examples={"0.0": PHOTOS["0.0"], "1.0": PHOTOS["0.0"]})
    code, rows, output = ends(model)
    assert code == 1
    assert [name for name, message in rows.items() if message != "ok"] == ["\\ud83d\\udc08 50 % (b"]
    assert r"is classified as '\"} red: {\\, \"label\":\"blue\",  ': {" in output


def test_one_example_is_sent_in_both_ways(make_model: Callable[..., Path]) -> None:
    code, _, output = ends(make_model(examples={"1.0": PHOTOS["1.0"]}))
    assert code == 0, output
    assert output.count("blue     ") == 2
    assert "predictions_total 0, then 2" in output


def test_without_examples_all_but_the_labels_is_checked(make_model: Callable[..., Path]) -> None:
    code, rows, output = ends(make_model(classes=NAMES))
    assert code == 0, output
    assert re.search(r"^examples .* none, so no label is checked$", output, re.MULTILINE)
    assert output.endswith("all 10 checks passed; without example photos, no label was checked\n")
    assert "predictions_total 0, then 2" in output
    assert rows["any label"] == "ok"


def test_a_service_without_a_list_of_examples_passes(service: Service) -> None:
    def earlier(path: str, _headers: dict[str, str], answer: Answer) -> Answer:
        return Answer(404, {}, b"{}") if path == "/model/examples" else answer

    with Proxy([service.port], change=earlier) as url:
        code, _, output = smoke_test(url)
    assert code == 0, output
    assert "no label was checked" in output


def test_the_largest_number_of_classes(make_model: Callable[..., Path]) -> None:
    names = [f"class {number}, of many" for number in range(MAX_CLASSES)]
    model = make_model(classes=names, graph=colour_graph(outputs=MAX_CLASSES, weight=0.5), examples=PHOTOS)
    code, _, output = ends(model)
    assert code == 0, output


BAD_GATEWAY = Answer(502, {"content-type": "text/html"}, b"<html>\n<h1>502 Bad Gateway</h1>\n</html>")


def test_waits_for_a_service_behind_a_proxy_that_is_not_there_yet(service: Service) -> None:
    waking = [
        BAD_GATEWAY,
        Answer(200, {"content-type": "text/html"}, b"<html>The service wakes up</html>"),
        Answer(503, {"content-type": "application/problem+json"}, b'{"detail": "the model is being loaded"}'),
    ]

    def before(number: int) -> Answer | None:
        if number == len(waking):
            time.sleep(1.5)  # held until the service is up
        return waking[number] if number < len(waking) else None

    with Proxy([service.port], before=before, prefix="/some/prefix") as url:
        code, _, output = smoke_test(f"{url}/")
    assert code == 0, output
    assert re.search(
        rf"waiting, \d+ of {HANG_S} s: /ready answers 502 instead of 200: <html> <h1>502 Bad Gateway", output
    )


def test_waits_no_longer_than_told(service: Service) -> None:
    with Proxy([], before=lambda _: Answer(503, {}, b'{"detail": "\x1b[31m\n::error::loading"}')) as url:
        code, rows, output = smoke_test(url, WAIT_SECONDS="2")
    assert code == 1
    assert list(rows) == ["ready"]  # nothing else is asked
    assert re.search(r"not ready after \d+ s: answers 503 instead of 200", rows["ready"])
    assert "\x1b" not in output
    assert "\n::" not in output
    with Proxy([], before=lambda _: Answer(308, {"location": "https://elsewhere/"}, b"")) as url:
        assert "redirects" in failures(url)["ready"]
    assert "Failed to connect" in failures("http://127.0.0.1:1", WAIT_SECONDS="1")["ready"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "timed out" in failures(url, WAIT_SECONDS="1")["ready"]


def replaced(path: str, old: str, new: str) -> Change:
    """Answers of a path with one text in place of another."""

    def change(asked: str, _headers: dict[str, str], answer: Answer) -> Answer:
        if asked == path and old.encode() in answer.body:
            answer.body = answer.body.replace(old.encode(), new.encode())
        return answer

    return change


def probability_of_the_cat(new: str) -> Change:
    """Answers that a photo shows a cat, with another probability of it."""

    def change(asked: str, _headers: dict[str, str], answer: Answer) -> Answer:
        if asked == "/predict":
            pattern = rb'("label":"cat","probabilities":{"cat":)[^,]+'
            answer.body = re.sub(pattern, rb"\g<1>" + new.encode(), answer.body)
        return answer

    return change


def no_refusal(_path: str, _headers: dict[str, str], answer: Answer) -> Answer:
    if answer.status in (415, 422):
        return Answer(200, {"content-type": "application/json"}, b'{"label": "cat"}')
    return answer


def html_refusal(_path: str, _headers: dict[str, str], answer: Answer) -> Answer:
    if answer.status in (415, 422):
        answer.headers["content-type"] = "text/html"
    return answer


def no_request_id(_path: str, _headers: dict[str, str], answer: Answer) -> Answer:
    answer.headers.pop("x-request-id", None)
    return answer


def frozen_metrics() -> Change:
    first: list[Answer] = []

    def change(path: str, _headers: dict[str, str], answer: Answer) -> Answer:
        if path == "/metrics":
            first.append(answer)
            return first[0]
        return answer

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            no_refusal,
            {"text rejected": "answers 200 instead of 415", "half JPEG rejected": "answers 200 instead"},
        ),
        (
            html_refusal,
            {"text rejected": "not as application/problem+json: text/html", "half JPEG rejected": "html"},
        ),
        (no_request_id, {"X-Request-ID": "is returned as ''"}),
        (replaced("/health", "ok", "ill"), {"health": '"ill"'}),
        (replaced("/model", "sha256", "md5"), {"model": "does not report version and sha256"}),
        (probability_of_the_cat("0.5"), {"cat": "the probabilities sum to 0.5:"}),
        (probability_of_the_cat("1.9"), {"cat": ' is not a probability: {"cat":1.9'}),
        (replaced("/predict", '"cat":0.00', '"cat":-0.00'), {"dog": ' is not a probability: {"cat":-0.00'}),
        (replaced("/predict", '"dog":0.9', '"dog":NaN,"fox":0.9'), {"dog": "NaN"}),
        (replaced("/predict", '"label":"cat"', '"label":"dog"'), {"cat": "is classified as 'dog'"}),
        (replaced("/predict", '"label":"cat"', '"labels":"cat"'), {"cat": "has no label"}),
        (replaced("/predict", '"label":"cat"', '"label":null'), {"cat": "has no label"}),
        (replaced("/model/examples", "cat.jpg", "cow.jpg"), {"examples": "the photo of cat answers 404"}),
        (replaced("/model/examples", '"/static', '"http://static'), {"examples": "not as expected"}),
        (
            replaced("/predict", "probabilities", "scores"),
            {"cat": "no probabilities", "dog": "no probabilities"},
        ),
        (replaced("/metrics", "predictions_total", "x"), {"metrics": "has no predictions_total"}),
        (frozen_metrics(), {"metrics": "does not grow with predictions"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_service_with_one_fault_fails_for_it(
    service: Service, change: Change, message: dict[str, str]
) -> None:
    with Proxy([service.port], change=change) as url:
        found = failures(url)
    assert set(found) == set(message)
    for name, part in message.items():
        assert part in found[name]


def test_several_processes_behind_one_url_pass(service: Service) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(running(LOG_LEVEL="error"))
        other.wait()
        for ports in ([service.port, other.port], [service.port, service.port, other.port]):
            url = stack.enter_context(Proxy(ports))
            code, _, output = smoke_test(url)
            assert code == 0, output


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8080",
        "ftp://host",
        "http://",
        "http://a b",
        "https://user:secret@host",
        "http://h/?x=1",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    code, rows, output = smoke_test(url)
    assert (code, rows) == (1, {})
    assert output.startswith("error: the URL must ")
    assert output.count("\n") == 1
    assert "secret" not in output


def test_help_describes_every_variable() -> None:
    done = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, timeout=HANG_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: scripts/smoke_test.sh URL" in done.stdout
    used = set(re.findall(r"\b[A-Z]+_[A-Z0-9]+\b", SCRIPT.read_text())) - {
        "BASH_SOURCE",
        "BASH_REMATCH",
        "LC_ALL",
    }
    assert used == set(re.findall(r"^  ([A-Z]+_[A-Z0-9]+) ", done.stdout, re.MULTILINE))


@pytest.mark.parametrize("name", ["WAIT_SECONDS", "MIN_PROBABILITY"])
def test_bad_settings_are_refused(name: str) -> None:
    code, _, output = smoke_test("http://127.0.0.1:1", **{name: "soon"})
    assert (code, output.count("\n")) == (1, 1)
    assert output.startswith(f"error: {name} must be a ")
