"""Nobody gets an item that somebody else has or has decided about."""

import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ml.data import reviewed
from ml.review.collected_items import CollectedItems
from ml.review.items import Choice
from ml.review.queue import Queue, TakenError
from tests.ml.review.conftest import decide, kept, next_item, served

Review = Callable[..., CollectedItems]
BLUE, RED, NONE = Choice("label", "blue"), Choice("label", "red"), Choice("none")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(store: Path, review: Review, clock: Clock) -> Queue:
    for number in range(4):
        kept(store, number)
    return Queue(review(), 600, clock)


def test_two_people_get_different_items_until_a_lease_ends(queue: Queue, clock: Clock) -> None:
    first, second = queue.next("one"), queue.next("two")
    assert first
    assert second
    assert first.id != second.id
    with pytest.raises(TakenError):
        queue.decide("two", first.id, RED)
    with pytest.raises(TakenError):
        queue.open("two", first.id)
    clock.now = 601
    assert queue.next("two") == first
    with pytest.raises(TakenError):
        queue.decide("one", first.id, RED)
    assert not queue.items.choices()


def test_a_decided_item_is_never_handed_out_again(queue: Queue) -> None:
    ids = []
    while item := queue.next("one"):
        ids.append(item.id)
        queue.decide("one", item.id, NONE)
    assert len(ids) == len(set(ids)) == 4
    assert queue.next("two") is None
    with pytest.raises(TakenError):
        queue.decide("two", ids[0], RED)
    queue.decide("two", ids[0], NONE)  # a request that was sent twice
    assert len(reviewed.load()) == 4
    assert reviewed.PATH.read_text().count("\n") == 5


def test_after_a_skipped_item_come_the_others_and_then_it(queue: Queue) -> None:
    first = queue.next("one")
    assert first
    others = []
    after = first.id
    for _ in range(3):
        item = queue.next("one", after=after)
        assert item
        queue.decide("one", item.id, NONE)
        others.append(item.id)
        after = item.id
    assert first.id not in others
    assert queue.next("one", after=after) == first


def test_undo_goes_back_step_by_step_and_the_last_decision_wins(queue: Queue) -> None:
    items = [queue.next("one")]
    assert items[0]
    queue.decide("one", items[0].id, RED)
    items.append(queue.next("one"))
    assert items[1]
    queue.decide("one", items[1].id, NONE)
    queue.open("one", items[0].id)
    queue.decide("one", items[0].id, BLUE)
    assert queue.undo("two") is None
    assert queue.undo("one") == items[0]
    assert queue.items.choices()[items[0].id] == RED
    assert queue.undo("one") == items[1]
    assert queue.undo("one") == items[0]
    assert queue.undo("one") is None
    assert reviewed.load() == {}
    queue.decide("one", items[0].id, BLUE)
    assert reviewed.load()[items[0].id].label == "blue"


def test_a_person_without_a_session_can_change_a_decision(queue: Queue) -> None:
    """As in the label audit, where every request has the same, empty session."""
    item = queue.next("")
    assert item
    queue.decide("", item.id, RED)
    queue.open("", item.id)
    queue.decide("", item.id, BLUE)
    assert queue.items.choices()[item.id] == BLUE
    assert queue.undo("") == item
    assert queue.items.choices()[item.id] == RED


def test_what_is_undone_is_not_taken_from_somebody_else(queue: Queue) -> None:
    item = queue.next("one")
    assert item
    queue.decide("one", item.id, RED)
    queue.open("two", item.id)
    with pytest.raises(TakenError):
        queue.undo("one")
    assert queue.items.choices()[item.id] == RED


def test_undo_does_not_take_back_what_somebody_else_has_decided_since(queue: Queue) -> None:
    item = queue.next("one")
    assert item
    queue.decide("one", item.id, RED)
    queue.open("two", item.id)
    queue.decide("two", item.id, BLUE)
    with pytest.raises(TakenError, match="since then"):
        queue.undo("one")
    assert queue.items.choices()[item.id] == BLUE
    assert queue.undo("one") is None


def test_many_people_at_once_decide_about_each_item_once(store: Path, review: Review) -> None:
    count = 40
    for number in range(count):
        kept(store, number)
    served_to: list[str] = []

    with served(review()) as ask:

        def work(session: str) -> None:
            while item := next_item(ask, session):
                served_to.append(item["id"])
                assert decide(ask, item["id"], "label", "red", session)[0] == 200

        threads = [threading.Thread(target=work, args=(f"session-{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert Counter(Counter(served_to).values()) == {1: count}
    assert len(reviewed.load()) == count
    assert reviewed.PATH.read_text().count("\n") == count + 1
