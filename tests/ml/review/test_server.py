"""The page's server, with the suspects of an audit: what it shows and writes, and whom it refuses."""

import hashlib
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ml.audit.items import AuditItems
from ml.audit.suspects import Suspect, Suspects
from ml.data import decisions
from ml.data.decisions import LabelDecision
from ml.review.items import Choice
from scripts.common.pictures import encoded
from tests.ml.audit.conftest import write_suspects
from tests.ml.review.conftest import SESSION, TOKEN, Ask, decide, next_item, served


@pytest.fixture
def suspects(tmp_path: Path) -> Suspects:
    write_suspects(tmp_path, ["10", "9", 'a "b" <c>'], 6)
    suspects = Suspects.load(tmp_path / "reports/audit/suspects.json")
    assert suspects
    return suspects


@pytest.fixture
def audit(suspects: Suspects, tmp_path: Path) -> AuditItems:
    return AuditItems(suspects, tmp_path / "data/raw", tmp_path / "decisions.csv")


@pytest.fixture
def ask(audit: AuditItems) -> Iterator[Ask]:
    with served(audit) as ask:
        yield ask


def test_the_page_and_its_parts(ask: Ask) -> None:
    for path, kind in (("", "text/html"), ("static/review.js", "javascript"), ("static/review.css", "css")):
        status, headers, body = ask("GET", path)
        assert status == 200
        assert kind in headers["Content-Type"]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Referrer-Policy"] == "no-referrer"
        assert body


@pytest.mark.parametrize("token", ["", "A-TOKEN_1", "x", "..", f"{TOKEN}x", f"x/../{TOKEN}"])
def test_without_the_token_nothing_is_read_or_decided(ask: Ask, audit: AuditItems, token: str) -> None:
    photo = audit.items[0].photos[0].id
    for path in ("", "queue", f"next?session={SESSION}", f"photos/{photo}", "static/review.js"):
        assert ask("GET", path, token=token)[0] == 404
    wish = {"session": SESSION, "item": "0", "action": "drop"}
    assert ask("POST", "decisions", wish, token=token)[0] in (404, 405)
    assert not audit.path.exists()


def test_what_there_is_to_decide(ask: Ask, suspects: Suspects) -> None:
    queue = ask("GET", "queue")[2]
    assert queue["classes"] == ["10", "9", 'a "b" <c>']
    assert queue["actions"] == [["keep", "Keep", "k", True], ["drop", "Drop", "d", False]]
    item = next_item(ask)
    assert item["labels"] == ["10"]
    assert item["question"] == "Is the label “10” right?"
    assert item["reason"] == "The classifier is sure of another class. The prediction is “9”, 90%."
    assert item["probabilities"][:2] == [["9", 0.9], ["10", 0.05]]
    assert (item["place"], item["decision"]) == (1, None)
    assert [photo["id"] for photo in item["photos"]] == suspects.suspects[0].hashes


def test_whoever_opens_the_audit_again_goes_on_where_they_were(ask: Ask) -> None:
    assert next_item(ask)["id"] == next_item(ask, "session-2")["id"]
    assert decide(ask, "0", "drop")[0] == 200
    assert ask("POST", "undo", {"session": "session-2"})[2]["item"]["id"] == "0"


def test_a_photo_is_shown_whole_and_upright(
    ask: Ask, audit: AuditItems, suspects: Suspects, tmp_path: Path
) -> None:
    path, sha256 = tmp_path / "data/raw" / suspects.suspects[0].paths[0], suspects.suspects[0].hashes[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    path.write_bytes(encoded(Image.new("RGB", (3000, 1000), "red"), exif=exif))
    assert ask("GET", f"photos/{sha256}")[0] == 404  # not the photo that the decision would be about
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    audit._files[sha256] = path
    status, headers, body = ask("GET", f"photos/{sha256}")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    with Image.open(io.BytesIO(body)) as shown:
        assert shown.size == (533, 1600)
    assert ask("GET", f"photos/{sha256}/evidence")[2] == {"evidence": None}
    for content in (b"", b"no photo", encode_bomb()):
        path.write_bytes(content)
        assert ask("GET", f"photos/{sha256}")[0] == 404
    path.unlink()
    assert ask("GET", f"photos/{sha256}")[0] == 404
    path.symlink_to("/etc/passwd")
    assert ask("GET", f"photos/{sha256}")[0] == 404
    for name in ("f" * 64, "..%2f..%2fdecisions.csv", "../decisions.csv"):
        assert ask("GET", f"photos/{name}")[0] == 404
        assert ask("GET", f"static/{name}")[0] == 404


def encode_bomb() -> bytes:
    """A PNG whose header claims more pixels than are allowed."""
    content = bytearray(encoded(Image.new("RGB", (8, 8)), "PNG"))
    content[16:24] = (100_000).to_bytes(4, "big") * 2
    return bytes(content)


def test_each_decision_is_in_the_file_at_once(ask: Ask, audit: AuditItems, suspects: Suspects) -> None:
    hashes = [suspect.hashes[0] for suspect in suspects.suspects]
    status, answer = decide(ask, "0", "keep")
    assert (status, answer["progress"]) == (200, {"decided": 1, "total": 6})
    assert answer["item"]["decision"] == {"action": "keep", "label": "10", "words": "Kept: 10"}
    assert decisions.load(audit.path) == {hashes[0]: LabelDecision(hashes[0], "keep", "", "10/0.jpg")}
    assert decide(ask, "1", "label", 'a "b" <c>')[1]["item"]["decision"]["words"] == 'Relabelled: a "b" <c>'
    assert decide(ask, "2", "drop")[0] == 200
    assert decide(ask, "3", "label", "10")[0] == 200  # which it has already
    made = decisions.load(audit.path)
    assert made[hashes[1]] == LabelDecision(hashes[1], "relabel", 'a "b" <c>', "9/1.jpg")
    assert made[hashes[3]] == LabelDecision(hashes[3], "keep", "", "10/3.jpg")
    assert ask("POST", "undo", {"session": SESSION})[2]["item"]["id"] == "3"
    assert decisions.load(audit.path).keys() == set(hashes[:3])


def test_the_kind_filters_and_counts(ask: Ask) -> None:
    assert next_item(ask, kind="outlier") is None
    answer = ask("GET", f"next?session={SESSION}&kind=outlier")[2]
    assert answer["progress"] == {"decided": 0, "total": 0}


def test_decisions_that_others_write_meanwhile_stay(ask: Ask, audit: AuditItems) -> None:
    other = LabelDecision("a" * 64, "drop", "", "elsewhere/1.jpg")
    decisions.save([other], audit.path)
    threads = [
        threading.Thread(target=decide, args=(ask, str(number), "drop", "", f"session-{number}"))
        for number in range(6)
    ]
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
    audit = AuditItems(Suspects("", ["x", "y"], 2, [suspect]), tmp_path, tmp_path / "decisions.csv")
    item = audit.items[0]
    assert item.question == "Which is right: “x” or “y”?"
    assert [photo.tag for photo in item.photos] == ["x", "y"]
    audit.decide(item, Choice("label", "y"))
    assert {(one.path, one.decision, one.label) for one in decisions.load(audit.path).values()} == {
        ("x/1.jpg", "relabel", "y"),
        ("y/1.jpg", "relabel", "y"),
    }
    assert audit.choices() == {"0": Choice("label", "y")}
    audit.decide(item, Choice("keep"))
    assert audit.words(item, audit.choices()["0"]) == "Kept: x, y"
    audit.decide(item, None)
    assert decisions.load(audit.path) == {}


GOOD = {"session": SESSION, "item": "0", "action": "drop"}


@pytest.mark.parametrize(
    ("wish", "status"),
    [
        (GOOD | {"item": "6"}, 404),
        (GOOD | {"item": "-1"}, 404),
        (GOOD | {"item": True}, 404),
        (GOOD | {"item": ["0"]}, 404),
        ({"session": SESSION, "action": "drop"}, 404),
        (GOOD | {"action": "delete"}, 400),
        (GOOD | {"action": ["drop"]}, 400),
        (GOOD | {"action": "label"}, 400),
        (GOOD | {"action": "label", "label": "cow"}, 400),
        (GOOD | {"action": "label", "label": ["9"]}, 400),
        (GOOD | {"label": "9"}, 400),
        (GOOD | {"session": "short"}, 400),
        (GOOD | {"session": "x" * 65}, 400),
        (GOOD | {"session": None}, 400),
        ([], 400),
        ("drop", 400),
        (b"null", 400),
        (b"{", 400),
        (b"\xff", 400),
    ],
)
def test_nonsense_is_refused(ask: Ask, audit: AuditItems, wish: object, status: int) -> None:
    refused, _, body = ask("POST", "decisions", wish)
    assert refused == status
    assert body["error"]
    assert not audit.path.exists()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_form_can_not_decide(ask: Ask, audit: AuditItems, kind: str) -> None:
    assert ask("POST", "decisions", GOOD, Content_Type=kind)[0] == 415
    assert not audit.path.exists()


def test_a_long_body_and_other_methods(ask: Ask) -> None:
    assert ask("POST", "decisions", GOOD | {"label": "x" * 20_000})[0] == 413
    assert ask("POST", "decisions", b"[" * 9_000)[0] == 400
    assert ask("GET", "decisions")[0] == 405
    assert ask("GET", "next")[0] == 400
    status, headers, body = ask("GET", "nothing")
    assert status == 404
    assert body["error"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_file_that_can_not_be_read_or_written(ask: Ask, audit: AuditItems, tmp_path: Path) -> None:
    audit.path.write_text("nonsense")
    status, _, body = ask("GET", f"next?session={SESSION}")
    assert status == 500
    assert "line 1: expected the columns" in body["error"]
    status, answer = decide(ask, "0", "drop")
    assert status == 500
    assert "line 1" in answer["error"]
    assert audit.path.read_text() == "nonsense"
    audit.path.unlink()
    (tmp_path / f".decisions.csv.{os.getpid()}.part").mkdir()
    status, answer = decide(ask, "0", "drop")
    assert status == 500
    assert "cannot be written" in answer["error"]
