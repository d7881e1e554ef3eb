"""The page over HTTP: content, headers, and size."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from app.settings import Settings
from tests.helpers.paths import ROOT

STATIC = ROOT / "app" / "static"
KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def test_the_page_answers_before_there_is_a_model() -> None:
    client = create_app(Settings()).test_client()
    page = client.get("/")
    assert (page.status_code, page.mimetype) == (200, "text/html")
    assert page.headers["Cache-Control"] == "no-cache"
    assert "Content-Disposition" not in page.headers
    head = client.head("/")
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == str(len(page.data))
    refused = client.post("/")
    assert (refused.status_code, refused.mimetype) == (405, "application/problem+json")


def test_the_policy_allows_only_its_own_files(client: FlaskClient) -> None:
    page = client.get("/")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]* src=)", page.text)
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    # It holds back the microphone, not the camera: a file input needs no permission.
    assert "camera" not in page.headers["Permissions-Policy"]


def test_the_page_is_small_and_self_contained(client: FlaskClient) -> None:
    html = client.get("/")
    assert re.search(r"<noscript>.*curl -F file=@photo.jpg.*</noscript>", html.text, re.DOTALL)
    parts = [html.data, *(path.read_bytes() for path in STATIC.iterdir())]
    assert sum(map(len, parts)) < 60_000
    for part in parts:
        for url in re.findall(rb"(?:https?:)?//[a-z][^\s\"'`]+\.[^\s\"'`]+", part):
            assert url == b"http://www.w3.org/2000/svg"  # a name, not an address
        assert not re.search(rb"\b(cat|dog)s?\b", part, re.IGNORECASE)  # classes come from the model
        assert b"innerHTML" not in part


def test_every_file_that_it_links_exists(
    make_app: Callable[..., Flask], make_model: Callable[..., Path]
) -> None:
    client = make_app(model_url=make_model("carded.pt", card=b"# A card").as_uri()).test_client()
    named = re.findall(r'(?:href|src)="([^"#]+)"', client.get("/").text)
    for script in STATIC.glob("*.js"):
        named += [f"static/{name}" for name in re.findall(r'from "\./([^"]+)"', script.read_text())]
    assert {f"static/{path.name}" for path in STATIC.iterdir()} <= set(named)
    for path in named:
        with client.get(f"/{path}") as response:
            assert response.status_code == 200, path


@pytest.mark.parametrize("megabytes", [1, 25])
def test_the_page_contains_the_upload_limit(make_app: Callable[..., Flask], megabytes: int) -> None:
    client = make_app(max_upload_mb=megabytes).test_client()
    for _ in range(2):  # rendered once
        assert f'data-max-upload-bytes="{megabytes << 20}"' in client.get("/").text


def test_static_files_are_revalidated(client: FlaskClient) -> None:
    for path in STATIC.iterdir():
        with client.get(f"/static/{path.name}") as first:
            assert first.mimetype == KINDS[path.suffix]
            assert first.headers["Cache-Control"] == "no-cache"
        with client.get(f"/static/{path.name}", headers={"If-None-Match": first.headers["ETag"]}) as again:
            assert (again.status_code, again.data) == (304, b"")


def test_other_files_are_not_reachable_and_metrics_stay_bounded(client: FlaskClient) -> None:
    for path in ("../settings.py", "%2e%2e/settings.py", "..%2fsettings.py", "none.js", "x" * 300):
        assert client.get(f"/static/{path}").status_code == 404
    routes = set(re.findall(r'http_requests_total{[^}]*route="([^"]+)"', client.get("/metrics").text))
    assert routes <= {"/static/<path:filename>", "unmatched", "/predict"}  # which is there from the start
