"""The film of a rehearsal: its timing, what the terminal shows, and the committed files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from scripts.common.chromium import CHROMIUM
from scripts.filming import filmed_rehearsal
from scripts.filming.background import background
from scripts.filming.camera import HEIGHT, WIDTH, Camera, encode, open_page, timeline
from scripts.filming.filmed_rehearsal import FilmedRehearsal
from scripts.recording import LARGEST_BYTES, LONGEST_S
from scripts.rehearsing.machine import RehearsalError
from tests.conftest import needs
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S

DOCS = ROOT / "docs"


class FakeCamera(Camera):
    """Keeps what it is told to show."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._cuts: list[tuple[float, float]] = []

    def write(self, line: str, seconds: float) -> None:
        self.lines.append(line)

    @property
    def seconds_cut(self) -> float:
        return sum(end - start for start, end in self._cuts)


@pytest.fixture
def camera() -> FakeCamera:
    return FakeCamera()


@pytest.fixture
def rehearsal(tmp_path: Path, camera: FakeCamera) -> FilmedRehearsal:
    (tmp_path / "project").mkdir()
    return FilmedRehearsal(tmp_path, {}, camera)


def seconds(film: Path) -> float:
    """Read the length of an MP4 from its movie header."""
    data = film.read_bytes()
    header = data.index(b"mvhd") + 4
    scale, duration = (int.from_bytes(data[header + at : header + at + 4], "big") for at in (12, 16))
    return duration / scale


def test_pictures_last_until_the_next_one_except_in_cuts() -> None:
    one, two, three, four = (Path(name) for name in "1234")
    frames = [(10.0, one), (12.0, two), (13.0, three), (20.0, four)]
    assert timeline(frames, [], 21) == [(one, 2), (two, 1), (three, 7), (four, 1)]
    assert timeline(frames, [(12.0, 19.0)], 21) == [(one, 2), (three, 1), (four, 1)]
    assert timeline(frames, [(10.5, 11.0), (20.5, 21.0)], 21)[0] == (one, 1.5)
    assert sum(length for _, length in timeline(frames, [(10.5, 12.5), (14.0, 15.0)], 21)) == 8


def test_a_cut_replaces_the_cuts_inside_it(camera) -> None:
    camera.cut(1, 2)
    camera.cut(4, 5)
    camera.cut(6, 5.5)  # there was nothing to cut
    camera.cut(3, 6)
    assert camera.seconds_cut == 4


def test_commands_and_output_are_shown_without_names_of_this_machine(rehearsal, camera, tmp_path) -> None:
    rehearsal.run("sh", "-c", "echo one; echo error >&2; pwd")
    command, *output = camera.lines
    assert command.startswith("[00:0")
    assert command.endswith("] $ sh -c 'echo one; echo error >&2; pwd'")
    assert output == ["one", "error", "~/project"]
    with pytest.raises(RehearsalError, match="exit code 3 instead of 0: sh -c 'exit 3'"):
        rehearsal.run("sh", "-c", "exit 3")
    rehearsal.run("sh", "-c", "exit 3", expected=3)


def test_long_waits_are_cut(rehearsal, camera, monkeypatch) -> None:
    monkeypatch.setattr(filmed_rehearsal, "_LONGEST_WAIT_S", 0.1)
    rehearsal.run("sh", "-c", "sleep 0.5; echo one; sleep 0.5")
    assert camera.seconds_cut >= 0.8 - 0.01


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="needs os.waitid")
def test_a_background_program_that_ends_by_itself_is_an_error(rehearsal, camera) -> None:
    with background(rehearsal, camera, "sleep", "1000"):
        pass
    with pytest.raises(RehearsalError, match="ended with 3: sh -c 'exit 3'"):  # noqa: SIM117
        with background(rehearsal, camera, "sh", "-c", "exit 3"):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)


@needs(CHROMIUM or "chromium", "ffmpeg")
def test_a_film_of_a_terminal(tmp_path) -> None:
    (tmp_path / "frames").mkdir()
    with sync_playwright() as playwright:
        camera = Camera(open_page(playwright), tmp_path / "frames", tmp_path)
        camera.show_terminal()
        camera.caption("A <caption> & more")
        camera.write("all 9 checks passed", 0.5)
        assert camera.page.locator(".good").inner_text() == "all 9 checks passed"
        camera.picture("terminal.png", play_button=True)
        assert camera.save("film.mp4") >= 0.5
    assert seconds(tmp_path / "film.mp4") >= 0.5
    with Image.open(tmp_path / "terminal.png") as image:
        assert image.size == (WIDTH, HEIGHT)


@needs("ffmpeg")
def test_pictures_of_another_size_are_filmed_and_a_broken_one_is_reported(tmp_path) -> None:
    shown = [(tmp_path / name, 0.5) for name in ("odd.jpg", "whole.jpg")]
    for (path, _), size in zip(shown, [(1279, 633), (WIDTH, HEIGHT)], strict=True):
        Image.new("RGB", size).save(path)
    encode(shown, tmp_path / "film.mp4")
    assert 1 <= seconds(tmp_path / "film.mp4") < 2
    shown[0][0].write_bytes(b"")
    with pytest.raises(RehearsalError, match=r"ffmpeg ended with \d+: .*odd\.jpg"):
        encode(shown[:1], tmp_path / "film.mp4")


def test_the_committed_files() -> None:
    assert 60 < seconds(DOCS / "recording.mp4") < LONGEST_S
    assert (DOCS / "recording.mp4").stat().st_size < LARGEST_BYTES
    for name in ("recording.png", "terminal.png"):
        assert (DOCS / name).stat().st_size < 300_000
        with Image.open(DOCS / name) as image:
            assert image.width == WIDTH
            assert image.height >= HEIGHT


def test_missing_tools_are_named() -> None:
    done = run("scripts.recording", PATH="/nowhere")
    assert done.returncode == 1
    assert "not installed: curl, ffmpeg" in done.stderr


@pytest.mark.parametrize("script", ["recording", "rehearsal", "page_picture"])
def test_help_does_nothing_else(script) -> None:
    before = {path: path.stat().st_mtime_ns for path in DOCS.iterdir()}
    done = run(f"scripts.{script}", "--help")
    assert done.returncode == 0, done.stderr
    assert f"python -m scripts.{script}" in done.stdout
    assert "example" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in DOCS.iterdir()} == before


def run(module: str, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=HANG_S
    )
