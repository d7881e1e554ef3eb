"""The page's server, which writes each decision at once.

A script can use it as the page does. All addresses begin with the one that the command prints, which
contains a random token; without it, nobody reads or decides anything. `session` is any name of 8 to 64
letters, digits, `-` and `_` that the client makes up, one per person. Bodies and answers are JSON.

- `GET next?session=S[&kind=K][&after=ID]` leases the next undecided item, and answers
  `{"item": ITEM or null, "progress": {"decided": 3, "total": 40}, "figures": "..."}`. With null, everything
  is decided, or others have the rest. ITEM has `id`, `kind`, `photos` (each with an `id`; of a collected
  photo, the id of its record), `question`, `reason`, `labels`, `probabilities` (`[[class, share], ...]`) and
  `decision`.
- `GET items/ID?session=S` leases a certain item, and answers as above.
- `POST decisions` with `{"session": S, "item": ID, "action": "label", "label": "cat"}`, or with another
  action that `GET queue` lists and no label. The decision is on the disk when the answer comes.
- `POST undo` with `{"session": S}` takes back this session's last decision, and answers as `next`.
- `GET photos/ID` is a JPEG, and `GET photos/ID/evidence` its evidence map, or null.

Errors answer `{"error": "..."}`: 400 for what makes no sense, 404 for an unknown item, 409 if somebody else
has the item or has decided about it (ask for the next one), 500 if the file of decisions cannot be read or
written.
"""

import re
import secrets
from typing import Any

from flask import Blueprint, Flask, Response, abort, request
from waitress import create_server
from werkzeug.exceptions import HTTPException

from ml.cli import note, say
from ml.data.locks import locked
from ml.model.errors import ImageError, PipelineError
from ml.review.items import Choice, Item, Items
from ml.review.queue import LEASE_S, Queue, TakenError

HOST = "127.0.0.1"
PORT = 8765

_SESSION = re.compile(r"[\w-]{8,64}", re.ASCII)
_MAX_BODY = 10_000  # bytes of a request
_TOKEN_BYTES = 16
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; script-src 'self'; "
    "style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",  # other pages can't embed the photos
    "Referrer-Policy": "no-referrer",  # the address is secret
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",  # the browser must not store users' photos
}


def serve(items: Items, port: int = PORT, host: str = HOST) -> None:
    """Serve the page until Ctrl-C; no other process may write the same decisions meanwhile.

    Raises:
        PipelineError: the port is taken, another process has the decisions, or they cannot be read.
    """
    with locked(items.path):
        items.reload()
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        try:
            server = create_server(
                create_app(items, token),
                host=host,
                port=port,
                threads=4,
                max_request_body_size=_MAX_BODY,  # waitress stores bodies before the token is checked
            )
        except OSError as error:
            where = f"can't listen on {host}, port {port}"
            raise PipelineError(f"{where}: {error.strerror}; see --host and --port") from error
        shown = f"[{host}]" if ":" in host else host  # an IPv6 address
        note(f"http://{shown}:{server.effective_port}/{token}/ (Ctrl-C ends)")
        server.run()
        say(f"{len(items.choices()):,} of {len(items.items):,} are decided; {items.next_step}")
        if figures := items.figures():
            say(figures)


def create_app(items: Items, token: str, lease_s: float = LEASE_S) -> Flask:
    """Return the page as a WSGI application whose addresses begin with the token."""
    queue = Queue(items, lease_s)
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BODY
    page = Blueprint(
        "review", __name__, url_prefix=f"/{token}", static_folder="static", static_url_path="/static"
    )

    @app.after_request
    def _secure(response: Response) -> Response:
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.errorhandler(Exception)
    def _failed(error: Exception) -> tuple[dict[str, str], int]:
        match error:
            case HTTPException():
                return {"error": error.description or error.name}, error.code or 500
            case TakenError():
                return {"error": str(error)}, 409
            case KeyError():
                return {"error": "there is no such photo"}, 404
            case ImageError():
                return {"error": "this photo cannot be shown"}, 404
            case ValueError():
                return {"error": str(error)}, 400
            case OSError():
                return {"error": f"{items.path} cannot be written: {error.strerror}"}, 500
            case PipelineError():
                return {"error": str(error)}, 500
        raise error

    def person(values: Any) -> str:
        session = _session(values)
        return session if items.shared else ""

    def answer(item: Item | None, kind: str = "") -> dict[str, Any]:
        choices = items.choices()
        shown = [each for each in items.items if kind in ("", each.kind)]
        described = None
        if item is not None:
            described = _describe(items, item, choices.get(item.id))
            described["place"] = shown.index(item) + 1 if item in shown else 0
        progress = {"decided": sum(each.id in choices for each in shown), "total": len(shown)}
        return {"item": described, "progress": progress, "figures": items.figures()}

    @page.get("/")
    def index() -> Response:
        return page.send_static_file("review.html")

    @page.get("/queue")
    def describe_queue() -> dict[str, Any]:
        actions = [[each.name, each.text, each.key, each.primary] for each in items.actions]
        kinds = list(items.kinds.items())
        return {
            "title": items.title,
            "classes": list(items.classes),
            "kinds": kinds,
            "actions": actions,
            "next_step": items.next_step,
        }

    @page.get("/next")
    def next_item() -> dict[str, Any]:
        kind = request.args.get("kind", "")
        return answer(queue.next(person(request.args), kind, request.args.get("after", "")), kind)

    @page.get("/items/<name>")
    def open_item(name: str) -> dict[str, Any]:
        return answer(queue.open(person(request.args), name), request.args.get("kind", ""))

    @page.post("/decisions")
    def decide() -> dict[str, Any]:
        wish = _body()
        choice = Choice(str(wish.get("action")), str(wish.get("label") or ""))
        return answer(queue.decide(person(wish), str(wish.get("item")), choice))

    @page.post("/undo")
    def undo() -> dict[str, Any]:
        return answer(queue.undo(person(_body())))

    @page.get("/photos/<photo>")
    def show_photo(photo: str) -> Response:
        try:
            content = items.photo(photo)
        except OSError:
            abort(404, "this photo cannot be read")
        return Response(content, mimetype="image/jpeg")

    @page.get("/photos/<photo>/evidence")
    def show_evidence(photo: str) -> dict[str, Any]:
        try:
            return {"evidence": items.evidence(photo)}
        except OSError:
            abort(404, "this photo cannot be read")

    app.register_blueprint(page)
    return app


def _body() -> dict[str, Any]:
    try:
        wish = request.get_json()  # 415 without the content type, which no form can send
    except RecursionError:
        wish = None
    if not isinstance(wish, dict):
        raise ValueError("expected an object")
    return wish


def _session(values: Any) -> str:
    session = values.get("session")
    if not isinstance(session, str) or not _SESSION.fullmatch(session):
        raise ValueError("session is a name of 8 to 64 letters, digits, - and _")
    return session


def _describe(items: Items, item: Item, choice: Choice | None) -> dict[str, Any]:
    decision = None
    if choice is not None:
        words = items.words(item, choice)
        decision = {"action": choice.action, "label": choice.label, "words": words}
    return {
        "id": item.id,
        "kind": item.kind,
        "photos": [{"id": photo.id, "name": photo.name, "tag": photo.tag} for photo in item.photos],
        "question": item.question,
        "reason": item.reason,
        "labels": list(item.labels),
        # JavaScript sorts the keys of an object that are numbers, as names of classes may be.
        "probabilities": list(item.probabilities.items()),
        "evidence": item.evidence,
        "decision": decision,
    }
