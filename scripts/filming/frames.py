"""The film as frames: what each shows and for how long, drawn by a browser."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from filming.film import STEPS, Scene
from filming.screen import Screen
from filming.timing import compress

RATE = 10
"""Frames a second."""
ROWS = 21
_PAGE = Path(__file__).with_name("frame.html")


@dataclass(frozen=True)
class Frame:
    """What is shown (see frame.html), and for how many seconds."""

    state: dict[str, Any]
    seconds: float


def frames(scenes: list[Scene], folder: Path) -> Iterator[Frame]:
    """Yield the film's frames, those that are alike as one; the pictures are in the folder."""
    for scene in scenes:
        step = f"{scene.step}/{STEPS}"
        if scene.events:
            yield from _merged(_terminal(scene, step))
        for shot in scene.shots:
            picture = (folder / shot.picture).resolve().as_uri()
            state = {"step": step, "caption": shot.caption, "speed": shot.speed, "title": shot.url}
            yield Frame(state | {"picture": picture, "pointer": shot.pointer}, shot.seconds)


def _terminal(scene: Scene, step: str) -> Iterator[Frame]:
    moments, screen, speed = compress(scene.events), Screen(), 1
    ticks, at = max(1, round(moments[-1].at * RATE)), 0
    for tick in range(ticks):
        while at < len(moments) and moments[at].at * RATE <= tick + 0.5:
            screen.write(moments[at].text)
            speed = moments[at].speed
            at += 1
        lines = [(line.text, line.kind) for line in screen.lines()[-ROWS:]]
        state = {"step": step, "caption": scene.caption, "speed": speed, "title": "Terminal", "lines": lines}
        yield Frame(state, 1 / RATE)


def _merged(found: Iterator[Frame]) -> Iterator[Frame]:
    last: Frame | None = None
    for frame in found:
        if last is not None and frame.state == last.state:
            last = Frame(last.state, last.seconds + frame.seconds)
            continue
        if last is not None:
            yield last
        last = frame
    if last is not None:
        yield last


def draw(found: list[Frame], browser: Browser, folder: Path) -> list[tuple[Path, float]]:
    """Draw each frame into the folder; return their files, each with its seconds."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(_PAGE.as_uri())
    drawn: dict[str, Path] = {}
    files = []
    for frame in found:
        key = json.dumps(frame.state)
        if key not in drawn:
            drawn[key] = folder / f"frame-{len(drawn):05d}.png"
            page.evaluate("state => show(state)", frame.state)
            page.screenshot(path=drawn[key])
        files.append((drawn[key], frame.seconds))
    page.close()
    return files
