"""Which connections are closed to let new ones in."""

import heapq
import time
from collections import Counter, defaultdict
from collections.abc import Iterable

from app.http.channel import Channel


def least_valuable(channels: Iterable[Channel], most: int) -> list[Channel]:
    """Return connections that wait for their client, the least valuable first.

    Each is taken from the address that has the most connections at that point, and is the one of it that has
    been quiet longest. If addresses have equally many, the one with the quietest connection loses it.

    Args:
        channels: all connections.
        most: number of connections to return at most.
    """
    now = time.monotonic()
    connections: Counter[object] = Counter()
    waiting: defaultdict[object, list[Channel]] = defaultdict(list)
    for channel in channels:
        connections[channel.peer] += 1
        if channel.waits_for_client(now):
            waiting[channel.peer].append(channel)
    heap = []
    for number, (peer, candidates) in enumerate(waiting.items()):
        candidates.sort(key=lambda channel: channel.last_activity, reverse=True)
        heap.append((-connections[peer], candidates[-1].last_activity, number, candidates))
    heapq.heapify(heap)
    victims: list[Channel] = []
    while heap and len(victims) < most:
        count, _, number, candidates = heapq.heappop(heap)
        victims.append(candidates.pop())
        if candidates:
            heapq.heappush(heap, (count + 1, candidates[-1].last_activity, number, candidates))
    return victims
