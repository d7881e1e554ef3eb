"""Headers that tell browsers what not to do, and which other sites' pages may call the service."""

from flask import Flask, Response

from app.settings import Settings

HEADERS = {
    # For answers that are no page: nothing in them may load or run (OWASP REST security cheat sheet).
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "geolocation=(), microphone=()",
    "Cache-Control": "no-store",  # an answer is of its moment and its sender
}


def register(app: Flask, settings: Settings) -> None:
    """Add the headers where an answer doesn't set its own, and CORS's where CORS_ORIGINS names someone."""

    @app.after_request
    def _secure(response: Response) -> Response:
        own = {name.lower() for name, _ in response.headers}  # one pass, where setdefault makes one a header
        response.headers.extend([pair for pair in HEADERS.items() if pair[0].lower() not in own])
        return response

    if settings.cors_origins:
        from flask_cors import CORS  # only now: most deployments have no use for it

        CORS(
            app,
            origins="*" if "*" in settings.cors_origins else list(settings.cors_origins),
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=["Retry-After", "X-Request-ID"],
            methods=["GET", "POST"],
            max_age=600,
        )
