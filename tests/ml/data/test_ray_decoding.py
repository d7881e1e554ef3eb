"""`prepare` on a real Ray cluster of two machines, one of which loses its power."""

from pathlib import Path

import pytest

from ml.data import prepare
from ml.data.dataset import SPLITS
from ml.params import Params
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.ray_cluster import Machine, needs_ray
from tests.helpers.waiting import HANG_S, until

pytestmark = needs_ray

PER_CLASS = 100
PREPARE = """
import sys
from pathlib import Path
from ml.data import prepare
from ml.params import Prepare
params, *folders = sys.argv[1:]
prepare.run(Prepare.model_validate_json(params), *map(Path, folders))
"""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Photos of two classes that take some time to decode; some can't be used."""
    for name, colour in (("blue", BLUE), ("red", RED)):
        (tmp_path / "raw" / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            data = encode(coloured(colour, 800, 600, seed=2 * number + (name == "red")))
            (tmp_path / "raw" / name / f"{number:03}.jpg").write_bytes(data)
    (tmp_path / "raw" / "blue" / "cut.jpg").write_bytes(data[:5000])
    (tmp_path / "raw" / "red" / "none.jpg").symlink_to("nowhere")
    (tmp_path / "raw" / "red" / "twice.jpg").write_bytes(data)
    return tmp_path / "raw"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_data_set_is_that_of_one_machine_though_a_node_is_killed(
    machines: tuple[Machine, Machine], raw: Path, tmp_path: Path, params: Params
) -> None:
    chosen = params.prepare.model_copy(update={"image_size": 96})
    here, report = tmp_path / "here", tmp_path / "report"
    prepare.run(chosen, raw, here, report)
    reported = contents(report)
    (first, second), out = machines, tmp_path / "out"
    command = ("-c", PREPARE, chosen.model_dump_json(), str(raw), str(out), str(report))
    driver = first.start_python(*command)
    until(lambda: list(out.glob("*/*.npy")) or driver.poll() is not None)
    second.kill()
    shards = len(list(out.glob("*/*.npy")))
    assert driver.wait(HANG_S) == 0, first.log
    assert "Ray: 2 nodes, 2 CPUs" in first.log
    assert 0 < shards < len(list(here.glob("*/*.npy")))
    assert contents(out) == contents(here)
    assert (out / SPLITS).is_file()
    assert contents(report) == reported
