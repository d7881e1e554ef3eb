"""app/memory.py: uploads and decoded photos fit into the memory of the container together."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from app import memory
from app.settings import Settings

MB = 2**20


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Set the memory of the container and of the machine, in MB."""

    def container(limit: float, machine: float = math.inf) -> None:
        monkeypatch.setattr(memory, "memory_limit", lambda: limit * MB)
        monkeypatch.setattr(memory, "_physical_memory", lambda: machine * MB)

    return container


@pytest.mark.parametrize(
    ("limit", "machine", "upload", "expected"),
    [
        (512, math.inf, 10, 64),
        (64, math.inf, 10, 20),
        (math.inf, math.inf, 10, 512),
        (512, math.inf, 1024, 2048),
        (512, 8, 10, 20),
    ],
)
def test_uploads_get_a_share_of_the_memory_and_at_least_room_for_two(
    container: Callable[..., None], limit: float, machine: float, upload: int, expected: int
) -> None:
    container(limit, machine)
    assert memory.for_uploads(upload * MB) == expected * MB


@pytest.mark.parametrize(
    ("limit", "workers", "photo_mb", "at_once"),
    [(math.inf, 2, 1024, 2), (512, 1, 240, 1), (2048, 2, 768, 2), (256, 4, 64, 1), (512, 8, 64, 1)],
)
def test_the_memory_of_a_photo_follows_from_the_container_s(
    container: Callable[..., None], limit: float, workers: int, photo_mb: int, at_once: int
) -> None:
    container(limit)
    settings = Settings(max_concurrency=workers)
    assert (settings.max_photo_bytes, settings.costly_photos) == (photo_mb * MB, at_once)
    assert Settings(max_concurrency=workers, max_photo_mb=100).max_photo_bytes == 100 * MB


def test_what_uploads_and_collecting_may_take_is_not_given_to_photos(
    container: Callable[..., None], tmp_path: Path
) -> None:
    container(1024)
    assert Settings(max_concurrency=1).max_photo_bytes == (1024 - 128 - 176 - 32) * MB
    assert Settings(max_concurrency=1, max_upload_mb=100).max_photo_bytes == (1024 - 200 - 176 - 32) * MB
    collecting = Settings(max_concurrency=1, collect_to=str(tmp_path))
    assert collecting.max_photo_bytes == (1024 - 128 - 176 - 160 - 32) * MB
    assert memory.for_waiting_photos() == 32 * MB
