"""Scoring on a real Ray cluster of two machines, one of which loses its power."""

import socket
from collections import Counter
from pathlib import Path

import pytest

from ml.model.errors import PipelineError
from ml.paths import DEFAULT_MODEL
from tests.helpers.ray_cluster import Machine, needs_ray
from tests.helpers.thumbnails import cat_and_dog
from tests.helpers.waiting import HANG_S, until

pytestmark = needs_ray

PHOTOS, DEADLY, BROKEN = 300, {"deadly-107.jpg"}, {"photo-011.jpg", "photo-200.jpg"}
Rows = dict[str, dict[str, object]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of small photos that all differ, of which some can't be used."""
    folder = tmp_path / "photos"
    folder.mkdir()
    animals = cat_and_dog(260)
    for number in range(PHOTOS):
        (folder / f"photo-{number:03}.jpg").write_bytes(animals[number % 2] + b"%d" % number)
    for name in BROKEN:
        (folder / name).write_bytes(animals[0][:3000])
    for name in DEADLY:
        (folder / name.replace("deadly", "photo")).rename(folder / name)
    return folder


def read(out: Path) -> list[dict[str, object]]:
    import pyarrow.dataset

    return pyarrow.dataset.dataset(out, format="parquet").to_table().to_pylist() if out.exists() else []


def test_each_photo_has_one_row_though_node_and_driver_are_killed(
    machines: tuple[Machine, Machine], photos: Path, tmp_path: Path
) -> None:
    (first, second), out = machines, tmp_path / "out"
    for machine in machines:
        machine.environment["TEST_BATCH"] = "8"
    command = ("-m", "tests.helpers.deadly_score", str(photos), str(out), "--model", str(DEFAULT_MODEL))
    driver = first.start_python(*command)
    until(lambda: read(out) or driver.poll() is not None)
    second.kill()
    rows = len(read(out))
    until(lambda: len(read(out)) > rows or driver.poll() is not None)
    driver.kill()
    driver.wait()
    rows = len(read(out))
    assert 0 < rows < PHOTOS, first.log
    again = first.start_python(*command)
    assert again.wait(HANG_S) == 0, first.log
    assert f"{rows} photos have a row already" in first.log
    result = read(out)
    assert Counter(Path(str(row["path"])).name for row in result) == Counter(
        path.name for path in photos.iterdir()
    )
    errors = {Path(str(row["path"])).name: str(row["error"]) for row in result if row["error"]}
    assert set(errors) == DEADLY | BROKEN
    assert all("each process that scores it dies" in errors[name] for name in DEADLY)
    assert {row["label"] for row in result} == {"cat", "dog", None}
    assert len({row["sha256"] for row in result}) == PHOTOS - len(DEADLY) - len(BROKEN) + 2


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}"])
def test_an_address_without_a_cluster_is_an_error_at_once(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    from ml import cluster

    with socket.socket() as closed:  # bound, so that nobody else gets the port, and not listening
        closed.bind(("127.0.0.1", 0))
        address = address.format(port=closed.getsockname()[1])
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setattr(cluster.ray, "init", lambda **_: pytest.fail("Ray tries for minutes"))
        with (
            pytest.raises(PipelineError, match=f"no Ray cluster at RAY_ADDRESS={address}: "),
            cluster.joined(),
        ):
            pass


def test_rows_can_be_written_in_time_while_all_tasks_wait_for_slow_photos(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ml.scoring import ray_engine

    answer = ray_engine.SCHEMA.empty_table()
    ends = iter([([], ["task"]), (["task"], [])])
    monkeypatch.setattr(ray_engine.cluster, "cpus", lambda: 1)
    monkeypatch.setattr(ray_engine.ray, "wait", lambda *_, **__: next(ends))
    monkeypatch.setattr(ray_engine.ray, "get", lambda _: answer)
    tables = list(ray_engine._score_all(iter(["a.jpg"]), lambda _: "task", "1", 1))
    assert [table.num_rows for table in tables] == [0, 0]
