"""`GET /`: the page, a client of the API like any other."""

import functools

from flask import Blueprint, Response, render_template

from app.service import current_service

# The page loads nothing but its own files. blob: is the preview of a photo, made in the browser.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)

blueprint = Blueprint("page", __name__)


@blueprint.get("/")
def page() -> Response:
    """Answer with the page; Flask serves its style and scripts under /static."""
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return Response(_html(current_service().settings.max_upload_bytes), mimetype="text/html", headers=headers)


@functools.cache
def _html(max_upload_bytes: int) -> str:
    # Rendered once: whatever the page shows of the settings is an argument.
    return render_template("index.html", max_upload_bytes=max_upload_bytes)
