"""`GET /`: the page, a client of the API like any other."""

import functools
from pathlib import Path
from typing import NamedTuple

from flask import Blueprint, Response, jsonify, render_template, request
from markupsafe import escape
from werkzeug.exceptions import NotFound

from app.routes import assets, documents, texts
from app.service import current_service
from app.settings import Settings

# The page loads nothing but its own files. blob: is the preview of a photo, made in the browser. It connects
# to other sites only to fetch a photo whose address the user enters, and reads only what the site allows.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self' https:; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_PERMISSIONS = "camera=(self), geolocation=(), microphone=()"

_STATIC = Path(__file__).parents[1] / "static"
_ADDRESS = "{{address}}"
"""Stands for the service's address in the rendered page."""

blueprint = Blueprint("page", __name__)


@blueprint.get("/")
def page() -> Response:
    """Answer with the page."""
    settings, tag = current_service().settings, texts.language()
    html = _html(tag, settings.max_upload_bytes, bool(settings.api_keys), _collecting(settings))
    html = html.replace(_ADDRESS, escape(documents.address(request)))
    headers = {
        "Content-Security-Policy": _POLICY,
        "Permissions-Policy": _PERMISSIONS,
        "Cache-Control": "no-cache",
    }
    return texts.vary(Response(html, mimetype="text/html", headers=headers), tag)


@blueprint.get("/manifest.webmanifest")
def manifest() -> Response:
    """Answer with what a phone needs to add the page to its home screen."""
    tag = texts.language()
    text = texts.of(tag)
    icons = [{"src": "static/icon.svg", "type": "image/svg+xml", "sizes": "any"}]
    icons += [
        {"src": f"static/icon-{size}.png", "type": "image/png", "sizes": f"{size}x{size}", "purpose": purpose}
        for size, purpose in ((192, "any"), (512, "any"), (512, "maskable"))
    ]
    response = jsonify(
        name=text.title,
        short_name=text.short_title,
        description=text.description,
        lang=tag,
        start_url="./",
        display="standalone",
        background_color="#f6f5fb",
        theme_color="#4b3fd6",
        icons=icons,
    )
    response.headers["Content-Type"] = "application/manifest+json"
    response.headers["Cache-Control"] = "no-cache"
    return texts.vary(response, tag)


@blueprint.get("/static/<path:filename>")
def static(filename: str) -> Response:
    """Answer with a file that the page consists of."""
    if filename not in _files(_STATIC):
        raise NotFound
    response = assets.respond(_STATIC / filename)
    response.headers["Cache-Control"] = "no-cache"
    return response


@functools.cache
def _files(folder: Path) -> frozenset[str]:
    return frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class _Collecting(NamedTuple):
    """What the page says about photos that are kept, see the settings COLLECT_*."""

    consent: str
    days: int
    operator: str


def _collecting(settings: Settings) -> _Collecting | None:
    if settings.collect_to is None:
        return None
    return _Collecting(settings.collect_consent, settings.collect_days, settings.collect_operator or "")


@functools.cache
def _html(tag: str, max_upload_bytes: int, needs_key: bool, collect: _Collecting | None) -> str:
    # Rendered once per language: whatever the page shows of the settings is an argument.
    return render_template(
        "index.html",
        language=tag,
        text=texts.of(tag),
        texts=texts.languages()[tag],
        max_upload_bytes=max_upload_bytes,
        needs_key=needs_key,
        collect=collect,
        address=_ADDRESS,
        modules=sorted(name for name in _files(_STATIC) if name.endswith(".js") and name != "page.js"),
    )
