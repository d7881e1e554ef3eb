"""Undo in the label audit brings back what earlier audits decided."""

from pathlib import Path

import pytest

from ml.audit.items import AuditItems
from ml.audit.suspects import Suspect, Suspects
from ml.data import decisions
from ml.data.decisions import LabelDecision
from ml.review.items import Choice
from ml.review.queue import Queue

OLD, NEW = "a" * 64, "b" * 64
EARLIER = LabelDecision(OLD, "relabel", "dog", "cat/old.jpg")


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Queue:
    """A group of near-duplicates, one of which was decided in an earlier audit."""
    monkeypatch.chdir(tmp_path)
    decisions.save([EARLIER])
    files = ["cat/old.jpg", "cat/new.jpg"], [OLD, NEW], ["dog", "cat"]
    group = Suspect("contradiction", *files, {"cat": 0.6, "dog": 0.4})
    return Queue(AuditItems(Suspects("", ["cat", "dog"], 9, [group]), Path("raw"), decisions.PATH))


def test_keeping_a_file_keeps_what_an_earlier_audit_made_of_it(queue: Queue) -> None:
    item = queue.next("one")
    assert item
    queue.decide("one", item.id, Choice("keep"))
    assert decisions.load() == {OLD: EARLIER, NEW: LabelDecision(NEW, "keep", "", "cat/new.jpg")}
    assert queue.next("one") is None  # both are decided


def test_undo_restores_the_lines_that_a_decision_replaced(queue: Queue) -> None:
    item = queue.next("one")
    assert item
    queue.decide("one", item.id, Choice("drop"))
    assert {made.decision for made in decisions.load().values()} == {"drop"}
    queue.open("one", item.id)
    queue.decide("one", item.id, Choice("keep"))
    queue.undo("one")
    assert {made.decision for made in decisions.load().values()} == {"drop"}
    queue.undo("one")
    assert decisions.load() == {OLD: EARLIER}
