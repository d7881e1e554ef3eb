"""`GET /`: the page, a client of the API like any other."""

import functools

from flask import Blueprint, Response, render_template

from app.settings import Settings

# Nothing but its own files; blob: is the preview of a photo that never leaves the browser by it.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


def blueprint(settings: Settings) -> Blueprint:
    """Return the route. Style and scripts come by Flask's own `/static`, checked anew by their ETag."""
    routes = Blueprint("page", __name__)

    @functools.cache
    def html() -> str:
        return render_template("index.html", max_upload_bytes=settings.max_upload_bytes)

    @routes.get("/")
    def page() -> Response:
        headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
        return Response(html(), mimetype="text/html", headers=headers)

    return routes
