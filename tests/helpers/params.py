"""The repository's params.yaml, without what the documentation tells users to change."""

import shutil
import tempfile
from pathlib import Path

from ml import params, set_params
from ml.params import Params
from tests.helpers.paths import ROOT

# The values that tests rely on, and that users change: the tests also pass in a checkout that is in use.
_DEFAULTS = {
    "ingest.source": "oxford-pets",
    "ingest.sha256": "",
    "prepare.image_size": "0",
    "train.arch": "efficientnet_lite0",
    "train.body": "",
    "train.minutes": "null",
    "evaluate.other": "",
    "package.min_accuracy": "null",
    "package.examples": "",
}


def default_params() -> Params:
    with tempfile.TemporaryDirectory() as folder:
        return params.load(copy_params(Path(folder)))


def copy_params(folder: Path) -> Path:
    """Write params.yaml into a folder."""
    path = Path(shutil.copy(ROOT / params.PATH, folder))
    set_params.assign(_DEFAULTS, path)
    return path
