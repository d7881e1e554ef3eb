"""params.yaml: what is misspelt or out of range is named."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ml import params
from ml.errors import PipelineError

ORIGINAL = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copy(ORIGINAL, tmp_path / "params.yaml"))


def test_the_default_source_works_for_everyone():
    assert params.load(ORIGINAL).ingest.source == "oxford-pets"


def test_assign_keeps_the_comments(copy):
    params.assign("ingest.source", "photos.zip", copy)
    params.assign("recipes.efficientnet_lite0.epochs", "7", copy)
    loaded = params.load(copy)
    assert (loaded.ingest.source, loaded.recipe.epochs) == ("photos.zip", 7)
    kept = [line for line in ORIGINAL.read_text().splitlines() if line.strip().startswith("#")]
    assert [line for line in copy.read_text().splitlines() if line.strip().startswith("#")] == kept


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("epochs: 2", "epoch: 2", "epoch"), ("epochs: 2", "epochs: none", "efficientnet_lite0.epochs"),
        ("arch: efficientnet_lite0", "arch: vgg", r"train\.arch"),
        ("val_share: 0.1", "val_share: 0.9", "val_share"), ("center_crop\n", "fit\n", "resize"),
    ],
)  # fmt: skip
def test_mistakes_are_named(copy, old, new, word):
    text = copy.read_text()
    assert old in text
    copy.write_text(text.replace(old, new))
    with pytest.raises(PipelineError, match=word):
        params.load(copy)


def test_missing_file_and_unknown_parameter(tmp_path, copy):
    with pytest.raises(PipelineError, match="missing"):
        params.load(tmp_path / "none.yaml")
    with pytest.raises(PipelineError, match=r"train\.speed"):
        params.assign("train.speed", "1", copy)
    with pytest.raises(PipelineError, match=r"efficientnet_lite0\.epochs"):
        params.assign("recipes.efficientnet_lite0.epochs", "-1", copy)


def test_the_environment_that_serves_is_told_what_it_lacks() -> None:
    script = "import sys; sys.modules['pydantic'] = None; import ml.params"
    done = subprocess.run([sys.executable, "-c", script], cwd=ORIGINAL.parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: pydantic is not installed: `make dev` makes the environment that trains\n"
