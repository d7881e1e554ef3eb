"""The page's server over HTTP: what it shows, what it writes, and whom it refuses."""

import http.client
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from werkzeug.serving import make_server

from ml.audit.page import HOST, Audit, create_app
from ml.audit.suspects import Suspect, Suspects
from ml.data import decisions
from ml.data.decisions import Decision
from tests.helpers.waiting import HANG_S
from tests.ml.audit.conftest import write_suspects

JSON = {"Content-Type": "application/json"}
Ask = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    write_suspects(tmp_path, ["10", "9", 'a "b" <c>'], 6)
    suspects = Suspects.load(tmp_path / "reports/audit/suspects.json")
    assert suspects
    return Audit(suspects, tmp_path / "data/raw", tmp_path / "decisions.csv")


@pytest.fixture
def ask(audit: Audit) -> Iterator[Ask]:
    """Ask the page's server, on a socket."""
    server = make_server(HOST, 0, create_app(audit), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def send(
        method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=HANG_S)
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, content, (JSON if method == "POST" else {}) | named)
        response = connection.getresponse()
        answer = response.status, dict(response.headers), response.read()
        connection.close()
        return answer

    yield send
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_page_and_its_parts(ask: Ask) -> None:
    for path, kind in (("/", "text/html"), ("/static/audit.js", "javascript"), ("/static/audit.css", "css")):
        status, headers, body = ask("GET", path)
        assert status == 200
        assert kind in headers["Content-Type"]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert body


def test_suspects_with_their_probabilities_in_order(ask: Ask, audit: Audit) -> None:
    content = json.loads(ask("GET", "/suspects")[2])
    assert content["classes"] == ["10", "9", 'a "b" <c>']
    assert content["photos"] == 100
    assert [each["labels"] for each in content["suspects"][:2]] == [["10"], ["9"]]
    assert content["suspects"][0]["probabilities"][:2] == [["9", 0.9], ["10", 0.05]]
    assert content["suspects"][0]["decision"] is None


def test_a_photo_is_shown_whole_and_upright(ask: Ask, audit: Audit, tmp_path: Path) -> None:
    suspect = audit.suspects.suspects[0]
    picture = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3000, 1000), "red").save(picture, "JPEG", exif=exif)
    (tmp_path / "data/raw" / suspect.paths[0]).write_bytes(picture.getvalue())
    status, headers, body = ask("GET", f"/photos/{suspect.hashes[0]}")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    with Image.open(io.BytesIO(body)) as shown:
        assert shown.size == (533, 1600)
    for content in (b"", b"no photo", encode_bomb()):
        (tmp_path / "data/raw" / suspect.paths[0]).write_bytes(content)
        assert ask("GET", f"/photos/{suspect.hashes[0]}")[0] == 404
    (tmp_path / "data/raw" / suspect.paths[0]).unlink()
    assert ask("GET", f"/photos/{suspect.hashes[0]}")[0] == 404
    for path in ("f" * 64, "..%2f..%2fdecisions.csv", "../decisions.csv"):
        assert ask("GET", f"/photos/{path}")[0] == 404
        assert ask("GET", f"/static/{path}")[0] == 404


def encode_bomb() -> bytes:
    """A PNG whose header claims more pixels than are allowed."""
    content = bytearray(encode_small_png())
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    return bytes(content)


def encode_small_png() -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    return picture.getvalue()


def test_each_decision_is_in_the_file_at_once(ask: Ask, audit: Audit) -> None:
    hashes = [suspect.hashes[0] for suspect in audit.suspects.suspects]
    assert ask("POST", "/decisions", {"suspect": 0, "action": "keep", "label": None})[0] == 200
    assert decisions.load(audit.path) == {hashes[0]: Decision(hashes[0], "keep", "", "10/0.jpg")}
    assert ask("POST", "/decisions", {"suspect": 1, "action": "relabel", "label": 'a "b" <c>'})[0] == 200
    assert ask("POST", "/decisions", {"suspect": 2, "action": "drop"})[0] == 200
    assert decisions.load(audit.path)[hashes[1]] == Decision(hashes[1], "relabel", 'a "b" <c>', "9/1.jpg")
    made = [each["decision"] for each in json.loads(ask("GET", "/suspects")[2])["suspects"]]
    assert made[:4] == [
        {"action": "keep", "label": ""},
        {"action": "relabel", "label": 'a "b" <c>'},
        {"action": "drop", "label": ""},
        None,
    ]
    assert ask("POST", "/decisions", {"suspect": 1, "action": None})[0] == 200
    assert decisions.load(audit.path).keys() == {hashes[0], hashes[2]}


def test_decisions_that_others_write_meanwhile_stay(ask: Ask, audit: Audit) -> None:
    other = Decision("a" * 64, "drop", "", "elsewhere/1.jpg")
    decisions.save([other], audit.path)

    def decide(number: int) -> None:
        assert ask("POST", "/decisions", {"suspect": number, "action": "drop"})[0] == 200

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = decisions.load(audit.path)
    assert len(made) == 7
    assert made["a" * 64] == other


def test_one_decision_about_all_copies(tmp_path: Path) -> None:
    hashes = ["a" * 64, "b" * 64]
    suspect = Suspect("contradiction", ["x/1.jpg", "y/1.jpg"], hashes, ["x", "y"], {"x": 0.6, "y": 0.4})
    audit = Audit(Suspects("", ["x", "y"], 2, [suspect]), tmp_path, tmp_path / "decisions.csv")
    audit.decide(0, "relabel", "y")
    assert {(one.path, one.label) for one in decisions.load(audit.path).values()} == {
        ("x/1.jpg", "y"),
        ("y/1.jpg", "y"),
    }
    assert audit.state()["suspects"][0]["decision"] == {"action": "relabel", "label": "y"}
    audit.decide(0, None, "")
    assert decisions.load(audit.path) == {}


@pytest.mark.parametrize(
    "wish",
    [
        {"suspect": 6, "action": "drop"},
        {"suspect": -1, "action": "drop"},
        {"suspect": True, "action": "drop"},
        {"suspect": "0", "action": "drop"},
        {"action": "drop"},
        {"suspect": 0, "action": "delete"},
        {"suspect": 0, "action": ["drop"]},
        {"suspect": 0, "action": {}},
        {"suspect": 0, "action": "relabel"},
        {"suspect": 0, "action": "relabel", "label": "cow"},
        {"suspect": 0, "action": "relabel", "label": ["9"]},
        [],
        "drop",
        None,
        b"{",
        b"\xff",
    ],
)
def test_nonsense_is_refused(ask: Ask, audit: Audit, wish: object) -> None:
    status, _, body = ask("POST", "/decisions", b"null" if wish is None else wish)
    assert status == 400
    assert json.loads(body)["error"]
    assert not audit.path.exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # a name that was made to point to this machine
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "evil.example:8765"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "https://127.0.0.1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_page_can_neither_read_nor_decide(ask: Ask, audit: Audit, headers: dict[str, str]) -> None:
    assert ask("POST", "/decisions", {"suspect": 0, "action": "drop"}, **headers)[0] in (400, 403)
    assert ask("GET", "/suspects", **headers)[0] in (400, 403)
    assert ask("GET", f"/photos/{audit.suspects.suspects[0].hashes[0]}", **headers)[0] in (400, 403)
    assert not audit.path.exists()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_form_can_not_decide(ask: Ask, audit: Audit, kind: str) -> None:
    assert ask("POST", "/decisions", {"suspect": 0, "action": "drop"}, Content_Type=kind)[0] == 415
    assert not audit.path.exists()


def test_the_page_itself_and_a_tunnel_can_decide(ask: Ask, audit: Audit) -> None:
    for number, host in enumerate(("127.0.0.1:8765", "localhost:9000", "127.0.0.1")):
        headers = {"Host": host, "Origin": f"http://{host}", "Sec_Fetch_Site": "same-origin"}
        assert ask("POST", "/decisions", {"suspect": number, "action": "drop"}, **headers)[0] == 200
    assert len(decisions.load(audit.path)) == 3


def test_a_long_body_and_other_methods(ask: Ask) -> None:
    assert ask("POST", "/decisions", {"suspect": 0, "action": "drop", "label": "x" * 20_000})[0] == 413
    assert ask("GET", "/decisions")[0] == 405
    assert ask("PUT", "/suspects")[0] == 405
    status, headers, body = ask("GET", "/nothing")
    assert status == 404
    assert json.loads(body)["error"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_file_that_can_not_be_read_or_written(ask: Ask, audit: Audit, tmp_path: Path) -> None:
    audit.path.write_text("nonsense")
    status, _, body = ask("GET", "/suspects")
    assert status == 500
    assert "line 1: expected the columns" in json.loads(body)["error"]
    status, _, body = ask("POST", "/decisions", {"suspect": 0, "action": "drop"})
    assert status == 500
    assert "line 1" in json.loads(body)["error"]
    assert audit.path.read_text() == "nonsense"
    audit.path.unlink()
    (tmp_path / f".decisions.csv.{os.getpid()}.part").mkdir()
    status, _, body = ask("POST", "/decisions", {"suspect": 0, "action": "drop"})
    assert status == 500
    assert "cannot be written" in json.loads(body)["error"]


def test_a_class_whose_photos_are_links(ask: Ask, audit: Audit) -> None:
    """Nothing but JPEGs made from photos leaves the server, whatever data/raw contains."""
    path = audit.raw / audit.suspects.suspects[0].paths[0]
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert ask("GET", f"/photos/{audit.suspects.suspects[0].hashes[0]}")[0] == 404
