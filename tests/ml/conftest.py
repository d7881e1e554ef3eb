"""A small set of photos that a small network learns in seconds."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ml import cli
from ml.__main__ import COMMANDS
from ml.params import Params
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.params import default_params
from tests.helpers.ray_cluster import PORT, Machine, two_machines


@pytest.fixture
def make_photos(tmp_path: Path) -> Callable[..., Path]:
    """Write a folder of pictures with one subfolder per class."""

    def make(count: int = 60, first: int = 0, folder: str = "photos") -> Path:
        root = tmp_path / folder
        for name, colour in (("blue", BLUE), ("red", RED)):
            (root / name).mkdir(parents=True, exist_ok=True)
            for number in range(first, first + count):
                seed = number * 2 + (name == "red")
                (root / name / f"{number:03d}.png").write_bytes(encode(coloured(colour, seed=seed), "PNG"))
        return root

    return make


@pytest.fixture
def params() -> Params:
    """The parameters of the repository, made small."""
    plain = default_params().model_dump()
    plain["prepare"] |= {"image_size": 32, "near_duplicate_bits": -1}
    plain["train"] |= {"arch": "simple_cnn", "precision": "32-true"}
    plain["recipes"]["simple_cnn"] |= {"epochs": 3, "batch_size": 16, "first_image_size": 0}
    plain["evaluate"] |= {"resamples": 50, "worst_mistakes": 4}
    plain["package"] |= {
        "calibration_photos": 32,
        "min_accuracy": 0.9,
        "max_accuracy_drop": 0.05,
        "max_mean_difference": 0.05,
    }
    plain["stability"]["min_photos"] = 1
    return Params.model_validate(plain)


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_ml(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Done]:
    """Run a command of `python -m ml` in this process, in a folder; by default, an empty one."""

    def run(*arguments: object, folder: Path = tmp_path) -> Done:
        monkeypatch.chdir(folder)
        try:
            code: object = cli.run("ml", "", COMMANDS, [str(argument) for argument in arguments])
        except SystemExit as ended:
            code = ended.code
        out, err = capsys.readouterr()
        return Done(code, out, err) if isinstance(code, int) else Done(1, out, f"{err}{code}\n")

    return run


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines of one CPU each, which are a Ray cluster."""
    folder = tempfile.mkdtemp(prefix="ray")  # short, because names of Unix sockets are limited to 107 bytes
    with two_machines(tmp_path) as (first, second):
        for machine in (first, second):
            machine.environment["RAY_ADDRESS"] = f"{first.address}:{PORT}"
        first.start_ray(folder=folder)
        second.start_ray(head=f"{first.address}:{PORT}")
        yield first, second
    shutil.rmtree(folder)
