"""Hands out items to several people, so that nobody decides about what somebody else is looking at.

An item that is handed out is leased: for `LEASE_S` seconds nobody else gets it. Leases are in memory only:
if the server is killed, every undecided item is free again, and no decision is lost.
"""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from ml.review.items import LABEL, Choice, Item, Items

LEASE_S = 600.0
"""How long an item is kept for the person who looks at it, in seconds."""


class TakenError(Exception):
    """Somebody else is looking at the item, or has decided about it."""


class Lease(NamedTuple):
    """Who has an item, and until when."""

    session: str
    end: float


class Queue:
    """The items, their leases, and what each session decided; several threads can use it in parallel."""

    def __init__(
        self, items: Items, lease_s: float = LEASE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.items, self._lease_s, self._clock = items, lease_s, clock
        self._places = {item.id: place for place, item in enumerate(items.items)}
        self._leases: dict[str, Lease] = {}
        self._history: dict[str, list[tuple[str, Choice | None, Choice]]] = {}
        self._lock = threading.Lock()

    def next(self, session: str, kind: str = "", after: str = "") -> Item | None:
        """Lease the first undecided item that is free.

        Args:
            session: who asks; it gives back the item that it had before.
            kind: only items of this kind; empty: of all.
            after: the item behind which the search begins; empty: the first.

        Returns:
            An item, or None if all are decided or leased to others.
        """
        with self._lock:
            self._give_back(session)
            choices = self.items.choices()
            first = self._places.get(after, -1) + 1
            for item in [*self.items.items[first:], *self.items.items[:first]]:
                free = item.id not in choices and not self._is_leased(item.id)
                if free and kind in ("", item.kind):
                    return self._lease(session, item)
        return None

    def open(self, session: str, name: str) -> Item:
        """Lease a certain item, decided or not.

        Raises:
            KeyError: there is no such item.
            TakenError: somebody else has it.
        """
        with self._lock:
            item = self.items.items[self._places[name]]
            if self._is_leased(name, except_by=session):
                raise TakenError("somebody else is looking at this photo")
            self._give_back(session)
            return self._lease(session, item)

    def decide(self, session: str, name: str, choice: Choice) -> Item:
        """Write a decision; repeating the same one does nothing.

        Raises:
            KeyError: there is no such item.
            ValueError: there is no such action or class.
            TakenError: somebody else has the item, or has decided about it meanwhile.
        """
        with self._lock:
            item = self.items.items[self._places[name]]
            if choice.action == LABEL:
                if choice.label not in self.items.classes:
                    raise ValueError("there is no such class")
            elif choice.label or choice.action not in [action.name for action in self.items.actions]:
                raise ValueError("there is no such action")
            before = self.items.choices().get(name)
            if before and _is_same(before, choice):
                return item
            own = self._is_leased(name) and not self._is_leased(name, except_by=session)
            if not own and (before or self._is_leased(name)):
                raise TakenError("somebody else has this photo, or has decided about it")
            self.items.decide(item, choice)
            self._history.setdefault(session, []).append((name, before, choice))
            self._leases.pop(name, None)
            return item

    def undo(self, session: str) -> Item | None:
        """Take back the session's last decision, and lease its item; None: there is no decision to take back.

        Raises:
            TakenError: somebody else is looking at the item, or has decided about it since then.
        """
        with self._lock:
            if not (history := self._history.get(session)):
                return None
            name, before, choice = history[-1]
            present = self.items.choices().get(name)
            if present is None or not _is_same(present, choice):
                history.pop()
                raise TakenError("somebody else has decided about that photo since then")
            if self._is_leased(name, except_by=session):
                raise TakenError("somebody else is looking at that photo")
            item = self.items.items[self._places[name]]
            self.items.decide(item, before)
            history.pop()
            self._give_back(session)
            return self._lease(session, item)

    def _is_leased(self, name: str, except_by: str | None = None) -> bool:
        lease = self._leases.get(name)
        return lease is not None and lease.end > self._clock() and lease.session != except_by

    def _lease(self, session: str, item: Item) -> Item:
        self._leases[item.id] = Lease(session, self._clock() + self._lease_s)
        return item

    def _give_back(self, session: str) -> None:
        self._leases = {name: lease for name, lease in self._leases.items() if lease.session != session}


def _is_same(before: Choice, choice: Choice) -> bool:
    """Return whether a choice changes nothing: keeping a label is choosing its class."""
    return before.label == choice.label if choice.action == LABEL else before.action == choice.action
