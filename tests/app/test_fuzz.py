"""Arbitrary bytes: the service never fails and always answers in the documented form."""

import http.client
import itertools
import json
import mmap
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.app.routes.test_predict import BLUE_PNG, RED_JPEG
from tests.helpers.http_server import Handler, Server
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, running
from tests.helpers.waiting import HANG_S

# The same examples in every run, so that a new failure comes from a change of the code.
generated = settings(max_examples=150, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running(LOG_LEVEL="error") as service:
        service.wait()
        yield service
        assert service.end() == (0, "", "")  # nothing unexpected was logged


def send(service: Service, request: bytes, *allowed: int) -> int:
    """Send a request, check that the answer has the documented form, and return its status."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=HANG_S) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = response.read()
    assert response.status in allowed
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", response.headers["X-Request-ID"])
    if response.status >= 400:
        assert response.headers["Content-Type"] == "application/problem+json"
        problem = json.loads(body)
        assert set(problem) == {"title", "status", "detail", "request_id"}
        assert problem["status"] == response.status
        assert problem["request_id"] == response.headers["X-Request-ID"]
    return response.status


def post(kind: bytes, body: bytes, headers: bytes = b"") -> bytes:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %s\r\n%s" % (
        kind,
        headers,
    )
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def line(low: int = 0, size: int = 60) -> st.SearchStrategy[bytes]:
    """Generate bytes without line ends, half of them without control characters, which are rejected."""
    written = st.text(st.characters(min_codepoint=32, max_codepoint=255), min_size=low, max_size=size)
    anything = st.binary(min_size=low, max_size=size).map(lambda data: re.sub(b"[\r\n]", b"~", data))
    return written.map(lambda text: re.sub(r"[\x7f-\x9f]", "~", text).encode("latin-1")) | anything


starts = st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"BM"])
photos = st.tuples(st.sampled_from([RED_JPEG, BLUE_PNG]), st.integers(0, 2000)).map(lambda p: p[0][: p[1]])


@given(
    kind=st.sampled_from([b"image/jpeg", b"image/png; a=b", b"IMAGE/", b"text/plain", b""]) | line(),
    body=st.tuples(starts, st.binary(max_size=500)).map(b"".join) | photos,
)
@generated
def test_any_body_of_any_kind(service, kind, body):
    send(service, post(kind, body), 200, 400, 413, 415, 422)


boundaries = st.sampled_from([b"B", b'"B"', b"", b'"', b"B" * 300, b"\xe9", b"*=utf-8''%FF"]) | line(size=80)
fragments = st.sampled_from(
    [
        b"--B", b"--B--", b"--B\r\n", b"\r\n--B\r\n", b"\r\n--B--\r\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"--",
        b'Content-Disposition: form-data; name="file"; filename="a"', b"Content-Disposition: form-data",
        b"Content-Disposition: form-data; name=file; filename*=utf-8''%FF", b"Content-Type: image/jpeg",
        b'Content-Disposition: form-data; name="file"', b"Content-Transfer-Encoding: base64",
        b'\r\n--B\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n',
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n', RED_JPEG, BLUE_PNG[:900],
    ]
)  # fmt: skip


@given(
    boundary=boundaries,
    body=st.lists(fragments | st.binary(max_size=80), max_size=12).map(b"".join),
    more=st.sampled_from([b"", b"; charset=utf-7", b"; boundary=C"]) | line(),
)
@generated
def test_any_form(service, boundary, body, more):
    kind = b"multipart/form-data; boundary=" + boundary + more
    send(service, post(kind, body), 200, 400, 413, 415, 422)


values = line() | st.from_regex(r"[!-~][ -~]{0,80}", fullmatch=True).map(str.encode)
names = st.sampled_from(
    [
        b"X-Request-ID", b"Authorization", b"X-API-Key", b"Accept", b"Origin", b"Host", b"Content-Encoding",
        b"Connection", b"Cookie", b"Range", b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Proto",
        b"Content-Type", b"Upgrade", b"If-None-Match", b"Accept-Encoding", b"X-HTTP-Method-Override", b"Date",
    ]
)  # fmt: skip


@given(headers=st.lists(st.tuples(names | line(1), values), max_size=6))
@generated
def test_any_headers(service, headers):
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    send(service, post(b"image/jpeg", RED_JPEG, lines), 200, 400, 415)


methods = st.sampled_from([b"GET", b"POST", b"PUT", b"OPTIONS", b"BREW"]) | line(1)
targets = st.tuples(
    st.sampled_from([b"/", b"/predict", b"/docs/", b"//", b"http://[", b"/%", b"?", b"*", b"/..", b"x:"]),
    line(),
).map(b"".join)


@given(
    method=methods, target=targets, version=st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9"]) | line()
)
@generated
def test_any_first_line(service, method, target, version):
    first = b" ".join([method, target, version])
    send(service, first + b"\r\nHost: x\r\n\r\n", 200, 400, 404, 405, 415)


def fuzz(keep: Path, *options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "scripts.fuzz", "--keep", keep, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S)
    assert not done.stderr
    return done.returncode, done.stdout


def test_broken_photos_of_every_format(tmp_path, monkeypatch):
    monkeypatch.setenv("PORT", "1")  # of the user's own service
    code, output = fuzz(tmp_path / "kept", "--count", "400", "--growth", "100")  # too few to measure growth
    assert code == 0, output
    counts = {int(status): int(count) for count, status in re.findall(r"(\d+) x (\d+)", output)}
    assert sum(counts.values()) == 400
    assert counts[200] > 40
    assert counts[422] > 100
    assert counts[415] > 3
    assert not (tmp_path / "kept").exists()


class Broken(Handler):
    """Answers correctly except for a few requests, and keeps a megabyte per request."""

    protocol_version = "HTTP/1.1"
    numbers = itertools.count(1)
    kept: ClassVar[list[mmap.mmap]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        number = next(Broken.numbers)  # one step, since several threads answer
        kept = mmap.mmap(-1, 1 << 20)  # never memory that this process has taken before
        kept.write(b"\1" * (1 << 20))
        Broken.kept.append(kept)
        status, kind = 200, "application/json"
        body: dict = {"label": "a", "probabilities": {"a": 0.75, "b": 0.25}, "request_id": "1"}
        if number == 40:
            status = 500
        elif number == 50:
            status, kind = 422, "text/html"
        elif number == 60:
            body["probabilities"] = {"a": 0.9, "b": 0.9}
        elif number == 65:
            body["label"] = "b"
        elif number == 68:
            body |= {"label": "unknown", "known": 0.1}  # a valid answer
        elif number == 70:
            self.close_connection = True
            return
        self.answer(status, json.dumps(body).encode(), {"Content-Type": kind, "X-Request-ID": "1"})


def test_wrong_answers_are_reported_and_their_requests_kept(tmp_path):
    with Server(Broken) as server:
        try:
            code, output = fuzz(tmp_path, "--count", "150", "--url", server.url, "--pid", str(os.getpid()))
        finally:
            Broken.kept.clear()
    assert code == 1
    for reason in (
        "status 500",
        "content type 'text/html'",
        "not probabilities",
        "not the likeliest class: 'b'",
        "no answer",
        "memory grew by",
    ):
        assert reason in output
    assert len(list(tmp_path.iterdir())) == 5


def test_a_service_that_ends_is_reported(tmp_path):
    with running(LOG_LEVEL="error") as service:
        service.wait()
        threading.Timer(1.5, service.process.kill).start()
        url = f"http://127.0.0.1:{service.port}"
        code, output = fuzz(tmp_path, "--count", "100000", "--url", url, "--pid", str(service.process.pid))
    assert code == 1
    assert "no answer" in output or "has gone" in output
