"""The page over HTTP: content, headers, and size."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from app import create_app
from app.http.gate import PREDICTIONS
from app.routes import texts
from app.settings import Settings
from tests.conftest import BLUE, RED, colour_graph, coloured, encode
from tests.helpers.paths import ROOT

TEXTS = ROOT / "app" / "texts"

STATIC = ROOT / "app" / "static"
FILES = [path for path in STATIC.rglob("*") if path.is_file()]
KINDS = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}


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
        "connect-src": "'self' https:",  # a photo by its address
        "manifest-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]* src=|[^>]*json)", page.text)
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Permissions-Policy"] == "camera=(self), geolocation=(), microphone=()"
    assert client.get("/docs").headers["Permissions-Policy"] == "camera=(), geolocation=(), microphone=()"


def test_the_page_is_small_and_self_contained(client: FlaskClient) -> None:
    html = client.get("/")
    assert re.search(r"<noscript>.*curl -F .*@photo.jpg.*</noscript>", html.text, re.DOTALL)
    parts = [html.data, *(path.read_bytes() for path in FILES if path.suffix not in (".jpg", ".png"))]
    assert sum(map(len, parts)) < 90_000
    for part in parts:
        for url in re.findall(rb"(?:https?:)?//[a-z][^\s\"'`]+\.[^\s\"'`]+", part):
            assert url == b"http://www.w3.org/2000/svg" or url.startswith(b"http://localhost/"), url
        assert not re.search(rb"\b(cat|dog)s?\b", part, re.IGNORECASE)  # classes come from the model
        assert b"innerHTML" not in part


def test_every_file_that_it_links_exists(
    make_app: Callable[..., Flask], make_model: Callable[..., Path]
) -> None:
    client = make_app(model_url=make_model("carded.pt", card=b"# A card").as_uri()).test_client()
    named = re.findall(r'(?:href|src)="([^"#]+)"', client.get("/").text)
    named += re.findall(r'content="http://localhost/([^"]+)"', client.get("/").text)
    named += [icon["src"] for icon in client.get("/manifest.webmanifest").get_json()["icons"]]
    named += re.findall(r'href="([^"#]+)"', client.get("/docs").text)
    for script in STATIC.glob("*.js"):
        named += [f"static/{name}" for name in re.findall(r'from "\./([^"]+)"', script.read_text())]
    examples = {f"static/examples/{path.name}" for path in STATIC.glob("examples/*")}
    assert {f"static/{path.relative_to(STATIC).as_posix()}" for path in FILES} <= set(named) | examples
    for path in set(named) - {"./"}:
        with client.get(f"/{path}") as response:
            assert response.status_code == 200, path


@pytest.mark.parametrize("megabytes", [1, 25])
def test_the_page_contains_the_upload_limit(make_app: Callable[..., Flask], megabytes: int) -> None:
    client = make_app(max_upload_mb=megabytes).test_client()
    for _ in range(2):  # rendered once
        assert f'data-max-upload-bytes="{megabytes << 20}"' in client.get("/").text


def test_static_files_are_revalidated(client: FlaskClient) -> None:
    for path in FILES:
        url = f"/static/{path.relative_to(STATIC).as_posix()}"
        with client.get(url) as first:
            assert first.mimetype == KINDS[path.suffix]
            assert first.headers["Cache-Control"] == "no-cache"
        with client.get(url, headers={"If-None-Match": first.headers["ETag"]}) as again:
            assert (again.status_code, again.data) == (304, b"")
        with client.get(url, headers={"If-Match": '"another"'}) as other:
            assert (other.status_code, other.json["status"]) == (412, 412)


def test_other_files_are_not_reachable_and_metrics_stay_bounded(client: FlaskClient) -> None:
    for path in ("../settings.py", "%2e%2e/settings.py", "..%2fsettings.py", "none.js", "x" * 300):
        assert client.get(f"/static/{path}").status_code == 404
    routes = set(re.findall(r'http_requests_total{[^}]*route="([^"]+)"', client.get("/metrics").text))
    assert routes <= {"/static/<path:filename>", "unmatched", *PREDICTIONS}  # which are there from the start


def test_the_language_is_the_browsers(client: FlaskClient) -> None:
    for accepted, tag in (
        ("", "en"), ("*", "en"), ("de-AT,de;q=0.9,en;q=0.5", "de"), ("xx,yy;q=0.9", "en"),
        ("en-GB,de;q=0.5", "en"),
    ):  # fmt: skip
        headers = {"Accept-Language": accepted} if accepted else {}
        for path in ("/", "/manifest.webmanifest", "/docs"):
            page = client.get(path, headers=headers)
            assert page.headers["Content-Language"] == tag, accepted
            assert page.headers["Vary"] == "Accept-Language"
        assert f'<html lang="{tag}"' in client.get("/", headers=headers).text
        assert client.get("/manifest.webmanifest", headers=headers).get_json()["lang"] == tag


def test_every_language_has_every_text_with_its_values() -> None:
    languages = {path.stem: json.loads(path.read_text("utf-8")) for path in TEXTS.glob("*.json")}
    assert {"en", "de"} <= set(languages)

    def values(text: object) -> set[str]:
        return set(re.findall(r"\{\w+\}", json.dumps(text)))

    for language, entries in languages.items():
        assert list(entries) == list(languages["en"]), language
        for key, text in entries.items():
            assert values(text) == values(languages["en"][key]), (language, key)
            assert isinstance(text, dict) == isinstance(languages["en"][key], dict), (language, key)


def test_every_text_is_used_and_none_is_elsewhere() -> None:
    texts = json.loads((TEXTS / "en.json").read_text("utf-8"))
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "app" / "templates").glob("*.html"))
    routes = (ROOT / "app" / "routes" / "page.py").read_text("utf-8")
    scripts = "".join(path.read_text("utf-8") for path in STATIC.glob("*.js"))
    used = set(re.findall(r"text\.(\w+)", pages + routes)) | set(re.findall(r'"(\w+)"', scripts))
    unused = {key for key in texts if key not in used and not key.startswith(("place_", "error_"))}
    assert unused == set()
    words = re.sub(r"\{[{%#].*?[}%#]\}|<code>.*?</code>", "", pages, flags=re.DOTALL)
    assert not re.search(r">[^<]*[A-Za-z]{3}", words)


def test_a_further_language_is_one_file(
    make_app: Callable[..., Flask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(TEXTS, tmp_path, dirs_exist_ok=True)
    entries = json.loads((TEXTS / "en.json").read_text("utf-8")) | {"title": "Que montre la photo ?"}
    (tmp_path / "yy.json").write_text(json.dumps(entries), "utf-8")
    monkeypatch.setattr(texts, "_FOLDER", tmp_path)
    texts.languages.cache_clear()
    try:
        page = make_app().test_client().get("/", headers={"Accept-Language": "yy"})
        assert '<html lang="yy"' in page.text
        assert "<title>Que montre la photo ?</title>" in page.text
    finally:
        texts.languages.cache_clear()


def test_a_shared_link_has_a_picture(client: FlaskClient) -> None:
    def pictured(**options: Any) -> str:
        found = re.search(r'<meta property="og:image" content="([^"]+)">', client.get("/", **options).text)
        assert found
        return found[1]

    assert pictured(base_url="https://example.org") == "https://example.org/static/share.png"
    assert pictured(base_url="http://[::1]:8080") == "http://[::1]:8080/static/share.png"
    for host in ('evil">', "a b", "user@evil", "evil/path?"):
        assert pictured(headers={"Host": host}) == "static/share.png"
    for name, size in (("share", (1200, 630)), ("icon-192", (192, 192)), ("icon-512", (512, 512))):
        with Image.open(STATIC / f"{name}.png") as picture:
            assert picture.size == size


def test_the_page_can_be_installed(client: FlaskClient) -> None:
    manifest = client.get("/manifest.webmanifest")
    assert manifest.mimetype == "application/manifest+json"
    assert {"name", "start_url", "icons"} <= set(manifest.get_json())
    assert {"192x192", "512x512"} <= {icon["sizes"] for icon in manifest.get_json()["icons"]}


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["cat", "dog"], ["cat", "dog"]),
        (["dog", "cat"], ["dog", "cat"]),
        (["cat", "dog", "owl"], []),
        (["../examples/cat", "dog"], []),
    ],
)
def test_examples_are_those_of_the_classes(
    make_app: Callable[..., Flask], make_model: Callable[..., Path], classes: list[str], expected: list[str]
) -> None:
    model = make_model("other.pt", classes=classes, graph=colour_graph(outputs=len(classes)))
    client = make_app(model_url=model.as_uri()).test_client()
    paths = [f"/static/examples/{name}.jpg" for name in expected]
    assert client.get("/model").get_json()["examples"] == paths
    labelled = [{"label": name, "path": path} for name, path in zip(expected, paths, strict=True)]
    assert client.get("/model/examples").get_json() == {"examples": labelled}


def test_examples_in_the_model_file_take_precedence(
    make_app: Callable[..., Flask], make_model: Callable[..., Path]
) -> None:
    photos = {"0.0": encode(coloured(RED)), "1.0": encode(coloured(BLUE))}
    names = ["dog", "a/b ü.."]
    model = make_model("other.pt", classes=names, examples=photos)
    client = make_app(model_url=model.as_uri()).test_client()
    paths = ["/model/examples/0/dog.jpg", "/model/examples/1/a_b%20%C3%BC...jpg"]
    labelled = [{"label": name, "path": path} for name, path in zip(names, paths, strict=True)]
    assert client.get("/model/examples").get_json() == {"examples": labelled}
    assert client.get("/model").get_json()["examples"] == paths
    for path, photo in zip(paths, photos.values(), strict=True):
        answer = client.get(path)
        assert (answer.mimetype, answer.data) == ("image/jpeg", photo)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-cache"
        assert client.get(path, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    for number in ("2", "-1", "9" * 5000):
        assert client.get(f"/model/examples/{number}/dog.jpg").status_code == 404
