"""When what was recorded is shown: commands typed, waits cut short, bursts slowed down for the eye."""

from collections.abc import Iterator
from dataclasses import dataclass

from filming.screen import PROMPT

LONGEST_WAIT_S = 1.2
"""No longer does nothing happen."""
LONGEST_SCENE_S = 30.0
TYPING_S = 0.7
"""For a command, however long it is; then a moment before it runs."""
_TYPED = 9
"""Pieces in which a command appears."""
_AFTER_TYPING_S, _LINE_S, _END_S = 0.4, 0.16, 3.2
_NOTED, _SHORT_S = 2, 0.5
"""From this speed on the picture says so, where it isn't of a wait as short as that."""


@dataclass(frozen=True)
class Moment:
    """What is written at a time.

    Attributes:
        at: seconds since the scene began, as shown.
        text: that is added.
        speed: how many times as fast as it was the time up to the next moment goes by.
    """

    at: float
    text: str
    speed: int


def compress(
    events: list[tuple[float, str]], longest_wait: float = LONGEST_WAIT_S, longest: float = LONGEST_SCENE_S
) -> list[Moment]:
    """Return when each piece is shown; the last one, without text, is the scene's end.

    Args:
        events: seconds and text, as recorded.
        longest_wait: seconds between two pieces.
        longest: seconds of the whole; what is longer goes faster throughout.
    """
    steps = list(_steps(events, longest_wait))
    total = sum(shown for _, shown, _ in steps)
    squeeze = min(1.0, (longest - _END_S) / total) if total else 1.0
    # Where a lot is said in little time no single wait is long, but all of it may go faster.
    overall = round(sum(real for _, _, real in steps) / (total * squeeze)) if total else 1
    least = overall if overall >= _NOTED else 1
    at, moments = 0.0, []
    for text, shown, real in steps:
        speed = round(real / (shown * squeeze)) if shown * squeeze > 0 else 1
        moments.append(Moment(at, text, max(speed if speed >= _NOTED and real > _SHORT_S else 1, least)))
        at += shown * squeeze
    return [*moments, Moment(at + _END_S, "", 1)]


def _steps(events: list[tuple[float, str]], longest_wait: float) -> Iterator[tuple[str, float, float]]:
    """Yield text, the seconds that it is shown before the next, and the seconds that passed in truth."""
    ends = [when for when, _ in events[1:]] + [events[-1][0]] if events else []
    for (when, text), end in zip(events, ends, strict=True):
        real = max(0.0, end - when)
        if text.startswith(PROMPT):
            size = max(1, -(-len(text) // _TYPED))
            pieces = [text[at : at + size] for at in range(0, len(text), size)]
            for piece in pieces[:-1]:
                yield piece, TYPING_S / len(pieces), 0.0
            yield pieces[-1], min(longest_wait, max(_AFTER_TYPING_S, real)), real
            continue
        # What came at once is shown line by line.
        rows = text.splitlines(keepends=True)
        for row in rows[:-1]:
            yield row, _LINE_S, 0.0
        yield rows[-1] if rows else "", min(longest_wait, max(_LINE_S, real)), real
