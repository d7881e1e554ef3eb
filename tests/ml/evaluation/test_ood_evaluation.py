"""OOD scores: how they are measured."""

import numpy as np
import pytest
import torch

from ml.evaluation.metrics import auroc, wilson
from ml.evaluation.ood import load_method, measure_scores
from ml.model.errors import PipelineError
from ml.paths import KNOWN, REPORT


def test_scores_are_measured_on_test_photos_and_ood_photos():
    test = np.array([0.9, 0.8, 0.5, 0.3, 0.7])
    ood = np.array([0.1, 0.6, 0.2, 0.05])
    metrics = measure_scores(0.9, test, ood)
    assert metrics["refused"] == 0.2  # a score at the threshold is not below it
    assert metrics["refused_others"] == 0.75
    assert metrics["auroc"] == pytest.approx(18 / 20)
    assert metrics["refused_high"] == wilson(1, 5, 0.9).high
    assert metrics["auroc_low"] == auroc(np.concatenate([test, ood]), np.arange(9) < 5, 0.9).low
    assert measure_scores(0.9, test).keys() == {"refused", "refused_low", "refused_high"}


@pytest.mark.parametrize(
    "content", [None, b"", b"no checkpoint", {}, {"method": "distance", "state_dict": {}}]
)
def test_a_method_that_cannot_be_read_has_a_clear_error(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = REPORT / KNOWN
    path.parent.mkdir(parents=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(PipelineError, match=f"{path} is missing or broken .*: run `dvc repro`"):
        load_method()
