"""Pages to read, made from Markdown: the model card and the API's reference."""

import re

from flask import Request, Response, render_template
from markupsafe import Markup

from app.routes import texts
from app.routes.markdown import Document

# They load two of the page's own files, and no script.
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")


def respond(document: Document, root: str = "", html: Markup | None = None) -> Response:
    """Return the page of a document.

    Args:
        document: its text, which is in English.
        root: how a link from the page to `/` begins, such as `../`.
        html: its markup, if it isn't `document.html`.
    """
    tag = texts.language()
    page = render_template(
        "document.html",
        document=document,
        html=document.html if html is None else html,
        root=root,
        language=tag,
        text=texts.of(tag),
    )
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return texts.vary(Response(page, mimetype="text/html", headers=headers), tag)


def address(request: Request) -> str:
    """Return the service's own address, with a slash at its end; empty: the request doesn't say it."""
    return request.url_root if _HOST.fullmatch(request.host) else ""
