"""One limit for all request bodies that are being received or that wait, in memory and in temporary files."""

import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable

_REMEMBER_S, _CLIENTS = 120, 4096
"""How long the cost of an upload counts against its client once the upload was given up, and for how many
clients at most. Otherwise a client that begins its uploads again and again would seem cheap each time."""


class RequestBody:
    """The bytes of one request's body.

    Attributes:
        client: the client that sent it.
        shed: rejects the request and closes this body; called by the thread that received bytes.
        held: bytes that count.
        fetched: those of them that the service fetched.
        began: when its first byte came, by `time.monotonic`.
    """

    __slots__ = ("began", "client", "fetched", "held", "shed")

    def __init__(self, client: Hashable, shed: Callable[[], None]) -> None:
        self.client, self.shed = client, shed
        self.held, self.fetched, self.began = 0, 0, time.monotonic()

    def cost(self, now: float) -> float:
        """Bytes times seconds that the body has taken so far; an upload that stalls costs ever more."""
        return self.held * (now - self.began)


class BodyBudget:
    """Counts the bytes of all bodies, and sheds uploads when they exceed the limit.

    The client whose unfinished uploads have cost most (bytes times seconds) loses the one of them that has
    cost most. Uploads that it gave up or lost in the last two minutes count, too. So clients that begin large
    uploads and never finish them lose theirs, and one from another address gets through. Complete requests in
    the queue are never shed. Safe in all threads.

    Args:
        limit: bytes that all bodies may take together.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._fetched = 0
        self._unfinished: set[RequestBody] = set()
        # The cost of each client's uploads that were given up or lost, and the time of its last change.
        self._past: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def grow(self, body: RequestBody, size: int) -> bool:
        """Count bytes that were received; return whether they fit, once others have been shed if need be."""
        with self._lock:
            self.used += size
            body.held += size
            self._unfinished.add(body)
            victims = self._most_expensive() if self.used > self.limit else []
        for victim in victims:
            if victim is body:
                return False
            victim.shed()
        return self.used <= self.limit

    def finish(self, body: RequestBody) -> None:
        """Note that a body is complete: it still counts, but isn't shed any more."""
        with self._lock:
            self._unfinished.discard(body)

    def reserve(self, body: RequestBody, size: int) -> bool:
        """Count bytes that the service fetched for a complete body; return whether they fit as things are.

        They may take half of the limit: a client needs only small requests to have them fetched, and uploads
        would lose their place to them.
        """
        with self._lock:
            fits = self.used + size <= self.limit and self._fetched + size <= self.limit // 2
            if fits:
                self.used += size
                self._fetched += size
                body.held += size
                body.fetched += size
        return fits

    def close(self, body: RequestBody) -> None:
        """Give a body's bytes back; it may be closed more than once."""
        with self._lock:
            if body in self._unfinished:
                self._unfinished.discard(body)
                self._remember(body, time.monotonic())
            self.used -= body.held
            self._fetched -= body.fetched
            body.held = body.fetched = 0

    def _remember(self, body: RequestBody, now: float) -> None:
        self._past[body.client] = (self._past_cost(body.client, now) + body.cost(now), now)
        self._past.move_to_end(body.client)
        if len(self._past) > _CLIENTS:
            self._past.popitem(last=False)

    def _past_cost(self, client: Hashable, now: float) -> float:
        """Return what uploads cost that the client gave up or lost; it falls to 0 within two minutes."""
        cost, then = self._past.get(client, (0.0, now))
        return cost * max(0.0, 1 - (now - then) / _REMEMBER_S)

    def _most_expensive(self) -> list[RequestBody]:
        """Return the unfinished uploads to shed, until the bytes of all bodies fit."""
        now = time.monotonic()
        by_client: defaultdict[Hashable, list[RequestBody]] = defaultdict(list)
        for body in self._unfinished:
            by_client[body.client].append(body)
        costs = {
            client: self._past_cost(client, now) + sum(body.cost(now) for body in bodies)
            for client, bodies in by_client.items()
        }
        victims, excess = [], self.used - self.limit
        while excess > 0 and costs:
            client = max(costs, key=costs.__getitem__)
            victim = max(by_client[client], key=lambda body: body.cost(now))
            by_client[client].remove(victim)
            victims.append(victim)
            excess -= victim.held
            if not by_client[client]:
                del costs[client]
        return victims
