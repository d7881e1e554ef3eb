"""`GET /`: the page, a client of the API like any other."""

import functools
from pathlib import Path

from flask import Blueprint, Response, render_template
from werkzeug.exceptions import NotFound

from app.routes import assets
from app.service import current_service

# The page loads nothing but its own files. blob: is the preview of a photo, made in the browser.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)

_STATIC = Path(__file__).parents[1] / "static"

blueprint = Blueprint("page", __name__)


@blueprint.get("/")
def page() -> Response:
    """Answer with the page."""
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return Response(_html(current_service().settings.max_upload_bytes), mimetype="text/html", headers=headers)


@blueprint.get("/static/<path:filename>")
def static(filename: str) -> Response:
    """Answer with a file that the page consists of."""
    if filename not in _static_files():
        raise NotFound
    response = assets.respond(_STATIC / filename)
    response.headers["Cache-Control"] = "no-cache"
    return response


@functools.cache
def _static_files() -> frozenset[str]:
    return frozenset(path.name for path in _STATIC.iterdir())


@functools.cache
def _html(max_upload_bytes: int) -> str:
    # Rendered once: whatever the page shows of the settings is an argument.
    return render_template("index.html", max_upload_bytes=max_upload_bytes)
