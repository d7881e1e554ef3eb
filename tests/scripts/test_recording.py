"""The film of a rehearsal: its timing, what the terminal shows, and the committed files."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from scripts.common.chromium import CHROMIUM
from scripts.filming.camera import HEIGHT, WIDTH, Camera
from scripts.filming.filmed_loop import FilmedLoop
from scripts.looping.photos import Parts
from scripts.rehearsal import RehearsalError
from scripts.standins.github import GitHub
from tests.conftest import needs
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S

DOCS = ROOT / "docs"


class FakeCamera(Camera):
    """Keeps what it is told to show."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.seconds = 0.0

    def write(self, line: str, seconds: float) -> None:
        self.lines.append(line)
        self.seconds += seconds

    def hold(self, seconds: float) -> None:
        pass


@pytest.fixture
def camera() -> FakeCamera:
    return FakeCamera()


@pytest.fixture
def rehearsal(tmp_path: Path, camera: FakeCamera) -> Iterator[FilmedLoop]:
    (tmp_path / "project").mkdir()
    with GitHub().serving() as github:
        yield FilmedLoop(tmp_path, {}, Parts([], [], [], []), github, "", camera)


def seconds(film: Path) -> float:
    """Read the length of an MP4 from its movie header."""
    data = film.read_bytes()
    header = data.index(b"mvhd") + 4
    scale, duration = (int.from_bytes(data[header + at : header + at + 4], "big") for at in (12, 16))
    return duration / scale


def test_commands_and_output_are_shown_without_names_of_this_machine(rehearsal, camera, tmp_path) -> None:
    rehearsal.run("sh", "-c", "echo one; echo error >&2; pwd")
    command, *output = camera.lines
    assert command.startswith("[00:0")
    assert command.endswith("] $ sh -c 'echo one; echo error >&2; pwd'")
    assert output == ["one", "error", "~/project"]
    with pytest.raises(RehearsalError, match="exit code 3 instead of 0: sh -c 'exit 3'"):
        rehearsal.run("sh", "-c", "exit 3")
    rehearsal.run("sh", "-c", "exit 3", expected=3)


def test_no_output_is_shown_for_long(rehearsal, camera) -> None:
    rehearsal.run("seq", "3000")
    assert camera.lines[-1] == "3000"
    assert camera.seconds < 17


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="needs os.waitid")
def test_a_background_program_that_ends_by_itself_is_an_error(rehearsal) -> None:
    with rehearsal.background("sleep", "1000"):
        pass
    with pytest.raises(RehearsalError, match="ended with 3: sh -c 'exit 3'"):  # noqa: SIM117
        with rehearsal.background("sh", "-c", "exit 3"):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)


@needs(CHROMIUM or "chromium", "ffmpeg")
def test_a_film_of_a_terminal(tmp_path, capfd) -> None:
    with sync_playwright() as playwright:
        camera = Camera(playwright, tmp_path / "frames", tmp_path)
        camera.show_terminal()
        camera.caption("A <caption> & more")
        for _ in range(10):
            camera.write("too short to be seen alone", 0.05)
        camera.write("all 9 checks passed", 0.5)
        camera.page.wait_for_timeout(1000)  # is cut
        camera.hold(1)
        assert camera.page.locator(".good").inner_text() == "all 9 checks passed"
        camera.picture("terminal.png", play_button=True)
        assert camera.seconds == pytest.approx(2, abs=0.11)
        camera.save("film.mp4")
        (tmp_path / "frames" / "000000.jpg").write_bytes(b"")
        with pytest.raises(subprocess.CalledProcessError):
            camera.save("broken.mp4")
    assert "000000.jpg" in capfd.readouterr().err
    assert seconds(tmp_path / "film.mp4") == pytest.approx(2, abs=0.3)
    with Image.open(tmp_path / "terminal.png") as image:
        assert image.size == (WIDTH, HEIGHT)


def test_the_committed_files() -> None:
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
