"""The film of the whole way: its timing, its captions, its SVG, and the files that are committed."""

import itertools
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from tests.app.service import ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from filming import plots, story, svg
from filming.film import Scene, Shot, load, save
from filming.frames import RATE, frames
from filming.screen import COLUMNS, Screen
from filming.timing import LONGEST_SCENE_S, LONGEST_WAIT_S, compress

from tests.waiting import HANG_S

DOCS = ROOT / "docs"
SMOKE = '  | cat                       12 ms  ok      "cat":0.99\n'


def terminal(minutes: float = 5, lines: int = 60) -> Scene:
    """A command that says a line now and then, and at last fails."""
    step = 60 * minutes / lines
    told = [(number * step, f"line {number}\n") for number in range(1, lines)]
    return Scene("one", 2, "It runs", [(0.0, "$ make it\n"), *told, (60 * minutes, "FAILED: 1 of 8\n")])


def test_no_wait_stays_long_and_no_scene_does() -> None:
    for scene in (terminal(), terminal(60, 5), terminal(0.01, 400)):
        moments = compress(scene.events)
        waits = [after.at - before.at for before, after in itertools.pairwise(moments[:-1])]
        assert min(waits) >= 0
        assert max(waits) <= LONGEST_WAIT_S + 1e-6
        assert moments[-1].at <= LONGEST_SCENE_S + 0.01
        assert "".join(moment.text for moment in moments) == "".join(text for _, text in scene.events)


def test_what_goes_faster_is_said_to() -> None:
    moments = compress([(0.0, "$ sleep\n"), (40.0, "done\n")])
    assert max(moment.speed for moment in moments) == round(40 / LONGEST_WAIT_S)
    assert moments[-1].speed == 1
    states = [frame.state for frame in frames([terminal()], Path())]
    assert any(state["speed"] > 1 for state in states)


def test_a_command_is_typed() -> None:
    moments = compress([(0.0, "$ make image\n"), (0.1, "done\n")])
    assert moments[0].text == "$ "
    assert 0.3 < moments[-2].at < 2


def test_frames_hold_captions_and_last_as_long_as_their_scenes(tmp_path: Path) -> None:
    shot = Shot("1.png", "http://127.0.0.1:5000", "A page", 4.0, pointer=(10.0, 20.0))
    scenes = [terminal(), Scene("two", 3, "", shots=[shot])]
    save(scenes, tmp_path / "film.json")
    assert load(tmp_path / "film.json") == scenes
    found = list(frames(scenes, tmp_path))
    assert all(frame.state["caption"] and frame.state["step"] for frame in found)
    due = compress(scenes[0].events)[-1].at + shot.seconds
    assert sum(frame.seconds for frame in found) == pytest.approx(due, abs=0.1)
    assert len(found) < RATE * LONGEST_SCENE_S


def test_screen() -> None:
    screen = Screen(10)
    screen.write("$ go\n\x1b[32m10 %\x1b[0m\r20 %\n")
    screen.write("123456789012\n+ new\n\nerror: bad\n" + SMOKE[:5])
    assert [(line.text, line.kind) for line in screen.lines()] == [
        ("$ go", "command"), ("20 %", "plain"), ("1234567890", "plain"), ("12", "plain"), ("+ new", "good"),
        ("", "plain"), ("error: bad", "bad"), ("  | c", "plain"),
    ]  # fmt: skip
    assert all(len(line.text) <= COLUMNS for line in Screen().lines())


def test_svg_is_small_well_formed_and_moves() -> None:
    text = svg.animate([Scene("one", 1, "A <caption> & more", terminal().events), terminal()])
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "A <caption> & more" in "".join(root.itertext())
    assert "@keyframes s" in text
    assert "infinite" in text
    assert len(text) < 50_000


def test_panels_are_the_dashboards() -> None:
    folder = ROOT / "monitoring" / "grafana" / "dashboards"
    chosen = plots.panels(folder, story.PANELS)
    assert [panel.title for panel in chosen] == list(story.PANELS)
    assert all(query for panel in chosen for query, _ in panel.queries)
    with pytest.raises(LookupError, match="not there"):
        plots.panels(folder, ("not there",))


def test_what_is_committed() -> None:
    for name, most in (("recording.mp4", 5_000_000), ("terminal.svg", 1_000_000), ("recording.png", 300_000)):
        assert 1000 < (DOCS / name).stat().st_size < most
    ET.parse(DOCS / "terminal.svg")
    with Image.open(DOCS / "recording.png") as image:
        assert image.size == (1280, 720)
    text = (DOCS / "terminal.svg").read_text("utf-8")
    assert not [path for path in ("/tmp/", "/root", "/home/", "/work") if path in text]  # of the machine
    due = ("git commit", "ml.publish", "scripts/deploy.py", "FAILED", "checks passed")
    assert all(told in text for told in due)


def test_what_is_missing_is_said() -> None:
    command = [sys.executable, ROOT / "scripts" / "recording.py", "--again"]
    done = subprocess.run(command, env={"PATH": "/nowhere"}, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 1
    assert "not installed: ffmpeg" in done.stderr
