"""Security headers, and CORS for the origins in CORS_ORIGINS."""

from collections.abc import Sequence

from flask import Flask, Response

from app.photos.tensors import JSON_SIZE
from app.settings import Settings

HEADERS = {
    # For responses that are not pages: nothing in them may load or run (OWASP REST security cheat sheet).
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",  # a response is for this client at this moment
}


_ALLOWED = ["Authorization", "Content-Encoding", "Content-Type", "X-API-Key", "X-Request-ID"]
_ALLOWED += [JSON_SIZE, "traceparent", "tracestate"]
_EXPOSED = [JSON_SIZE, "Retry-After", "X-Request-ID"]  # sorted, as flask-cors does


def register(app: Flask, settings: Settings) -> None:
    """Add the headers to every response that doesn't set its own, and CORS headers if CORS_ORIGINS is set."""

    @app.after_request
    def _secure(response: Response) -> Response:
        own = {name.lower() for name, _ in response.headers}  # one pass; setdefault would take one per header
        response.headers.extend([pair for pair in HEADERS.items() if pair[0].lower() not in own])
        return response

    if settings.cors_origins:
        from flask_cors import CORS  # imported only here: most deployments don't use it

        CORS(
            app,
            origins="*" if "*" in settings.cors_origins else list(settings.cors_origins),
            allow_headers=_ALLOWED,
            expose_headers=_EXPOSED,
            methods=["GET", "POST"],
            max_age=600,
        )


def cors_headers(origin: str, allowed: Sequence[str]) -> list[tuple[str, str]]:
    """Return the CORS headers of a response that doesn't come from the app, the same as the app's.

    Args:
        origin: the request's header Origin; empty: there is none.
        allowed: CORS_ORIGINS.
    """
    if not origin or not {origin, "*"} & set(allowed):
        return []
    headers = [("Access-Control-Allow-Origin", origin)]
    headers += [("Access-Control-Expose-Headers", ", ".join(_EXPOSED))]
    return headers if tuple(allowed) == (origin,) else [*headers, ("Vary", "Origin")]
