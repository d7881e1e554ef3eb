"""The page on which a person decides about the suspects; its server writes each decision at once."""

import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, request
from werkzeug.exceptions import HTTPException

from ml.audit.suspects import Suspect, Suspects
from ml.data import decisions
from ml.data.decisions import ACTIONS, Decision
from ml.model.errors import ImageError, PipelineError
from ml.packaging.perturbations import decode_whole, encode

HOST = "127.0.0.1"

_HERE = ("127.0.0.1", "localhost")
_SIDE = 1600  # longest side of a photo on the page, in pixels
_MAX_BODY = 10_000  # bytes of a request
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; script-src 'self'; "
    "style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",  # other pages can't embed the photos
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Audit:
    """The suspects, and the decisions about them in a file.

    Attributes:
        suspects: what was found.
        raw: the ingested photos.
        path: of the decisions.
    """

    def __init__(self, suspects: Suspects, raw: Path, path: Path) -> None:
        self.suspects, self.raw, self.path = suspects, raw, path
        self._files = {
            sha256: raw / name
            for suspect in suspects.suspects
            for name, sha256 in zip(suspect.paths, suspect.hashes, strict=True)
        }
        self._lock = threading.Lock()

    def state(self) -> dict[str, Any]:
        """Return all that the page shows.

        Raises:
            PipelineError: the file of decisions cannot be read.
        """
        made = decisions.load(self.path)
        return {
            "classes": self.suspects.classes,
            "photos": self.suspects.photos,
            "suspects": [
                {
                    "kind": suspect.kind,
                    "paths": suspect.paths,
                    "hashes": suspect.hashes,
                    "labels": suspect.labels,
                    # JavaScript sorts the keys of an object that are numbers, as names of classes may be.
                    "probabilities": list(suspect.probabilities.items()),
                    "decision": _decision(suspect, made),
                }
                for suspect in self.suspects.suspects
            ],
        }

    def decide(self, number: int, action: str | None, label: str) -> None:
        """Write the decision about a suspect, or remove it.

        The file is read again before, so that changes which others made in the meantime stay.

        Args:
            number: of the suspect.
            action: as in `ml.data.decisions`; None removes the decision.
            label: the right class, if the action is `relabel`; else empty.

        Raises:
            ValueError: there is no such suspect, action or class.
            PipelineError: the file of decisions cannot be read.
            OSError: it cannot be written.
        """
        if not 0 <= number < len(self.suspects.suspects):
            raise ValueError("there is no such photo")
        if action is not None and action not in ACTIONS:
            raise ValueError(f"the action is one of {', '.join(ACTIONS)}")
        if action == "relabel" and label not in self.suspects.classes:
            raise ValueError("there is no such class")
        suspect = self.suspects.suspects[number]
        with self._lock:
            made = decisions.load(self.path)
            for path, sha256 in zip(suspect.paths, suspect.hashes, strict=True):
                made.pop(sha256, None)
                if action is not None:
                    made[sha256] = Decision(sha256, action, label if action == "relabel" else "", path)
            decisions.save(made.values(), self.path)

    def photo(self, sha256: str) -> bytes:
        """Return a photo of a suspect as a JPEG for the page.

        Raises:
            KeyError: it belongs to no suspect.
            OSError, ImageError: it cannot be read.
        """
        photo = decode_whole(self._files[sha256].read_bytes(), _SIDE // 4)
        photo.thumbnail((_SIDE, _SIDE))
        return encode(photo, "JPEG", quality=90)


def _decision(suspect: Suspect, made: dict[str, Decision]) -> dict[str, str] | None:
    """Return the decision about all files of a suspect, or None."""
    choices = {(one.action, one.label) for sha256 in suspect.hashes if (one := made.get(sha256))}
    if len(choices) != 1 or not all(sha256 in made for sha256 in suspect.hashes):
        return None
    ((action, label),) = choices
    return {"action": action, "label": label}


def create_app(audit: Audit) -> Flask:
    """Return the page as a WSGI application."""
    app = Flask(__name__, static_folder="static", static_url_path="/static")
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY

    @app.before_request
    def _only_from_here() -> None:
        """Refuse what another web page sends, also one that lets its own name point to this machine."""
        if urlsplit(f"//{request.host}").hostname not in _HERE:
            abort(403, "open this page by the address that the command printed")
        same_origin = request.headers.get("Origin", request.host_url.rstrip("/")) == request.host_url.rstrip(
            "/"
        )
        if not same_origin or request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            abort(403, "only this page may do that")

    @app.after_request
    def _secure(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.errorhandler(HTTPException)
    def _failed(error: HTTPException) -> tuple[dict[str, str], int]:
        return {"error": error.description or error.name}, error.code or 500

    @app.errorhandler(PipelineError)
    def _unreadable(error: PipelineError) -> tuple[dict[str, str], int]:
        return {"error": str(error)}, 500

    @app.get("/")
    def page() -> Response:
        return app.send_static_file("audit.html")

    @app.get("/suspects")
    def suspects() -> dict[str, Any]:
        return audit.state()

    @app.get("/photos/<sha256>")
    def photo(sha256: str) -> Response:
        try:
            content = audit.photo(sha256)
        except (KeyError, OSError, ImageError):
            abort(404, "this photo cannot be shown")
        return Response(content, mimetype="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @app.post("/decisions")
    def decide() -> dict[str, Any]:
        wish = request.get_json()  # 415 without the content type, which no form can send
        if not isinstance(wish, dict) or type(wish.get("suspect")) is not int:
            abort(400, "expected an object with suspect, action and label")
        try:
            audit.decide(wish["suspect"], wish.get("action"), str(wish.get("label") or ""))
        except (ValueError, TypeError) as error:
            abort(400, str(error))
        except OSError as error:
            abort(500, f"{audit.path} cannot be written: {error.strerror}")
        return {}

    return app
