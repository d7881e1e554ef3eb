"""`prepare` on a real Ray cluster of two machines, one of which loses its power."""

import subprocess
import sys
from pathlib import Path

import pytest

from ml.data import prepare
from ml.data.dataset import SPLITS
from ml.params import Params
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.paths import ROOT
from tests.helpers.ray_cluster import Machine, needs_ray
from tests.helpers.waiting import HANG_S, until

pytestmark = needs_ray

PER_CLASS = 100
FIRST = "blue/000.jpg"
PREPARE = f"""
import sys, time
from pathlib import Path
from ml.data import prepare, ray_decoding
from ml.params import Prepare

params, killed, *folders = sys.argv[1:]
decode = ray_decoding.decode_files

def decode_files(paths, *rest):
    while paths[0] != {FIRST!r} and not Path(killed).exists():
        time.sleep(0.02)
    return decode(paths, *rest)

ray_decoding.decode_files = decode_files
prepare.run(Prepare.model_validate_json(params), *map(Path, folders))
"""
"""All shards but the first are decoded only after a file says that a machine was killed."""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Photos of two classes; some can't be used."""
    for name, colour in (("blue", BLUE), ("red", RED)):
        (tmp_path / "raw" / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            data = encode(coloured(colour, 96, 72, seed=2 * number + (name == "red")))
            (tmp_path / "raw" / name / f"{number:03}.jpg").write_bytes(data)
    (tmp_path / "raw" / "blue" / "cut.jpg").write_bytes(data[: len(data) // 2])
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
    (first, second), out, killed = machines, tmp_path / "out", tmp_path / "killed"
    arguments = (chosen.model_dump_json(), str(killed), str(raw), str(out), str(report))
    driver = first.start_python("-c", PREPARE, *arguments)
    until(lambda: list(out.glob("*/*.npy")) or driver.poll() is not None)
    second.kill()
    assert len(list(out.glob("*/*.npy"))) == 1
    killed.touch()
    assert driver.wait(HANG_S) == 0, first.log
    assert "Ray: 2 nodes, 2 CPUs" in first.log
    assert contents(out) == contents(here)
    assert (out / SPLITS).is_file()
    assert contents(report) == reported


def test_a_node_needs_only_the_packages_of_the_service() -> None:
    """docs/scale.md has requirements.txt and requirements-scale.txt installed there, nothing that trains."""
    code = "import sys, ml.data.decode; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"pydantic", "ruamel", "scipy", "torch", "tqdm"} & {*done.stdout.split()}
