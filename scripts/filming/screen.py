"""A terminal's text: lines of bounded width, each with what it is to be coloured as."""

import re
from dataclasses import dataclass

COLUMNS = 108
PROMPT = "$ "

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_KINDS = (
    ("heading", re.compile(r"# ")),
    ("bad", re.compile(r"error:|.*\bFAILED\b|-(?!-)|failed: ")),
    ("good", re.compile(r".* ms {2}ok\b|.*\ball \d+ checks passed|\+(?!\+)|live: ")),
    ("soft", re.compile(r"@@|diff --git|index [0-9a-f]+\.\.|---|\+\+\+")),
)


@dataclass(frozen=True)
class Line:
    """A line and its kind: command, heading, bad, good, soft or plain."""

    text: str
    kind: str


class Screen:
    """Takes what was written, and holds it as lines."""

    def __init__(self, columns: int = COLUMNS) -> None:
        self._columns = columns
        self._done: list[Line] = []
        self._open = ""

    def write(self, text: str) -> None:
        """Add text; a carriage return writes over the line that is open."""
        for part in re.split(r"(\n|\r(?!\n))", _ESCAPES.sub("", text).replace("\r\n", "\n")):
            if part == "\n":
                self._done += self._wrapped(self._open)
                self._open = ""
            elif part == "\r":
                self._open = ""
            else:
                self._open += part.expandtabs()

    def lines(self) -> list[Line]:
        """Return all lines, the open one last."""
        return [*self._done, *(self._wrapped(self._open) if self._open else [])]

    def _wrapped(self, text: str) -> list[Line]:
        text = text.rstrip()
        kind = "command" if text.startswith(PROMPT) else _kind(text)
        parts = []
        while len(text) > self._columns:
            # At a space, unless that leaves much of the line empty.
            at = text.rfind(" ", self._columns * 2 // 3, self._columns + 1)
            at = self._columns if at < 0 else at
            parts.append(text[:at])
            text = text[at:].removeprefix(" ")
        return [Line(part, kind) for part in (*parts, text)]


def _kind(text: str) -> str:
    return next((kind for kind, pattern in _KINDS if pattern.match(text.removeprefix("  | "))), "plain")
