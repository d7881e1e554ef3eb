"""A store of collected photos, and the page's server on a socket."""

import contextlib
import hashlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from ml import local_model
from ml.collected.store import Collected
from ml.model.kept_photos import Folder, Record, keep
from ml.review.collected_items import CollectedItems
from ml.review.items import Items
from ml.review.server import HOST, create_app
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.graphs import KNOWN, telling_graph
from tests.helpers.waiting import HANG_S

TOKEN = "a-token_1"
SESSION = "session-1"
Answer = tuple[int, dict[str, str], Any]
Ask = Callable[..., Answer]


def kept(store: Path, number: int, photo: bytes | None = None, **changes: Any) -> Record:
    """Write a photo and its record as the service does; even numbers are red."""
    if photo is None:
        photo = encode(coloured(BLUE if number % 2 else RED, seed=number))
    red = changes.pop("red", 0.4 if number % 2 else 0.6)
    label, known = changes.pop("label", "red" if red > 0.5 else "blue"), changes.pop("known", 0.9)
    fields: dict[str, Any] = {
        "id": f"{number:032x}",
        "request_id": f"request-{number}",
        "time": "2026-11-27T14:03:22Z",
        "reasons": ("unsure",),
        "random_share": 0.01,
        "answer": {"label": label, "probabilities": {"red": red, "blue": 1 - red}, "known": known},
        "model": {"version": "v1", "sha256": "a" * 64},
        "width": 60,
        "height": 40,
        "sha256": hashlib.sha256(photo).hexdigest(),
    }
    record = Record(**fields | changes)
    keep(Folder(store), record, photo)
    return record


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, beside the files that are written: the present folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def review(store: Path, make_model: Callable[..., Path]) -> Callable[..., CollectedItems]:
    """Return the items of the store, as they are now."""
    model = local_model.load(make_model(graph=telling_graph(), known=KNOWN), evidence=True)

    def items(max_bits: int = -1) -> CollectedItems:
        collected = Collected(str(store))
        return CollectedItems(collected, list(collected.records()), model, max_bits, 0.95)

    return items


@contextlib.contextmanager
def served(items: Items, lease_s: float = 600) -> Iterator[Ask]:
    """Serve the page of items, and yield a function that asks it."""
    server = make_server(HOST, 0, create_app(items, TOKEN, lease_s), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def ask(method: str, path: str, body: object = None, token: str = TOKEN, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=HANG_S)
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if method == "POST":
            named = {"Content-Type": "application/json"} | named
        connection.request(method, f"/{token}/{path}", content, named)
        response = connection.getresponse()
        received: Any = response.read()
        if response.headers.get("Content-Type") == "application/json":
            received = json.loads(received)
        connection.close()
        return response.status, dict(response.headers), received

    yield ask
    server.shutdown()
    thread.join()
    server.server_close()


def next_item(ask: Ask, session: str = SESSION, **query: str) -> Any:
    """Return the next item, or None."""
    status, _, answer = ask(
        "GET", "next?" + "&".join([f"session={session}", *(f"{k}={v}" for k, v in query.items())])
    )
    assert status == 200, answer
    return answer["item"]


def decide(ask: Ask, item: str, action: str, label: str = "", session: str = SESSION) -> tuple[int, Any]:
    """Return status and answer of a decision."""
    wish = {"session": session, "item": item, "action": action, "label": label}
    status, _, answer = ask("POST", "decisions", wish)
    return status, answer
