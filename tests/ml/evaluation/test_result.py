"""An evaluation belongs to its test photos and to its network."""

import dataclasses
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ml.data.dataset import Dataset
from ml.evaluation.result import Evaluation
from ml.model.errors import PipelineError


def test_an_evaluation_of_other_photos_or_another_network_is_refused(tmp_path: Path) -> None:
    network = tmp_path / "checkpoint.pt"
    network.write_bytes(b"weights")
    data = cast("Dataset", SimpleNamespace(digest={"test": "e" * 64}.__getitem__))
    good = Evaluation(1.0, {}, {}, "e" * 64, hashlib.sha256(b"weights").hexdigest(), {}, {}, {}, [])
    good.check(data, network)
    with pytest.raises(
        PipelineError, match=r"metrics.json was measured on other test photos: run `dvc repro`"
    ):
        dataclasses.replace(good, test_digest="f" * 64).check(data, network)
    network.write_bytes(b"others")
    with pytest.raises(
        PipelineError, match=r"metrics.json was measured on another network than .*checkpoint.pt"
    ):
        good.check(data, network)
