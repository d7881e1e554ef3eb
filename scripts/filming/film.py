"""What is recorded: scenes of a terminal and of pages, as one JSON file beside its pictures."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STEPS = 7
"""Chapters that the captions number."""


@dataclass(frozen=True)
class Shot:
    """A picture of a page.

    Attributes:
        picture: file name, beside the film's.
        url: of the page.
        caption: what happens.
        seconds: how long it stays.
        speed: how many times as fast as it was; 1: a still.
        pointer: where the mouse is, in pixels of the page.
    """

    picture: str
    url: str
    caption: str
    seconds: float
    speed: int = 1
    pointer: tuple[float, float] | None = None


@dataclass
class Scene:
    """A stretch of the film: either what a terminal said, or shots.

    Attributes:
        name: short, to find it by.
        step: number of the chapter.
        caption: what happens; a shot has its own.
        events: seconds since the scene began, and text.
        shots: of pages.
    """

    name: str
    step: int
    caption: str
    events: list[tuple[float, str]] = field(default_factory=list)
    shots: list[Shot] = field(default_factory=list)


def save(scenes: list[Scene], path: Path) -> None:
    """Write the film."""
    path.write_text(json.dumps([asdict(scene) for scene in scenes], indent=1), encoding="utf-8")


def load(path: Path) -> list[Scene]:
    """Read a film."""
    return [_scene(told) for told in json.loads(path.read_text("utf-8"))]


def _scene(told: dict[str, Any]) -> Scene:
    shots = [Shot(**shot | {"pointer": shot["pointer"] and tuple(shot["pointer"])}) for shot in told["shots"]]
    events = [(float(when), str(text)) for when, text in told["events"]]
    return Scene(told["name"], told["step"], told["caption"], events, shots)
