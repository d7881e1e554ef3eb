"""Distillation: what the teachers answer becomes part of the targets, once per photo."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from ml.model.errors import PipelineError
from ml.model.manifest import Manifest
from ml.model.networks import build
from ml.params import Params
from ml.training import teachers, train
from ml.training.teachers import read_teachers, soft_targets

CPU = torch.device("cpu")


def teacher(name: str, classes=("blue", "red"), size=32, bias=(0.0, 0.0), seed=0) -> str:
    torch.manual_seed(seed)
    network = build("simple_cnn", len(classes)).eval()
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor(bias))
    manifest = Manifest("simple_cnn", classes, size, "squash", (0.5,) * 3, (0.25,) * 3, 2.0, {}, "", "1")
    torch.save(manifest.to_dict() | {"state_dict": network.state_dict()}, name)
    return name


def test_targets_are_labels_mixed_with_the_mean_answer(data, tmp_path):
    paths = [teacher("a.pt", bias=(9.0, -9.0)), teacher("b.pt", ("red", "blue"), size=48, bias=(-9.0, 9.0))]
    models = read_teachers(paths, data.classes)
    targets = soft_targets(models, data, 0.4, tmp_path, CPU)
    assert targets.shape == (len(data.labels), 2)
    assert targets.sum(1) == pytest.approx(np.ones(len(targets)), abs=1e-5)
    train_rows = data.rows("train")
    blue = data.labels[train_rows] == 0
    # Both are sure of blue, whatever they see, in their own order of the classes.
    assert targets[train_rows][blue][:, 0] == pytest.approx(1, abs=0.02)
    assert targets[train_rows][~blue][:, 0] == pytest.approx(0.4, abs=0.02)
    for split in ("val", "test"):
        rows = data.rows(split)
        assert (targets[rows] == np.eye(2)[data.labels[rows]]).all()


def test_answers_are_computed_once(data, tmp_path, monkeypatch):
    models = read_teachers([teacher("a.pt")], data.classes)
    first = soft_targets(models, data, 0.5, tmp_path, CPU)
    asked = []
    answer = teachers._answer
    monkeypatch.setattr(teachers, "_answer", lambda *args: asked.append(1) or answer(*args))
    assert (soft_targets(models, data, 0.5, tmp_path, CPU) == first).all()
    assert not asked
    soft_targets(read_teachers([teacher("a.pt", seed=1)], data.classes), data, 0.5, tmp_path, CPU)
    fewer = dataclasses.replace(data, splits=np.where(np.arange(len(data.splits)) % 2, data.splits, "val"))
    soft_targets(models, fewer, 0.5, tmp_path, CPU)
    for change in ({"image_size": 16, "images": data.images[:][:, ::2, ::2]}, {"resize": "squash"}):
        soft_targets(models, dataclasses.replace(data, **change), 0.5, tmp_path, CPU)
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "missing.pt", "missing.pt: No such file"),
        (lambda: str(Path("text.pt").write_text("x") and "text.pt"), "text.pt: "),
        (lambda: teacher("c.pt", ("cat", "dog")), "has the classes cat, dog, but the photos have blue, red"),
    ],
)
def test_a_teacher_that_does_not_fit_is_one_line(data, make, message):
    with pytest.raises(PipelineError, match=message) as error:
        read_teachers([make()], data.classes)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_network_learns_from_its_teachers(data, params):
    """With the whole weight on teachers that always say blue, the network says blue as well."""
    path = teacher("a.pt", bias=(9.0, -9.0))
    plain = params.model_dump()
    plain["train"] |= {"teachers": [path], "teacher_weight": 1.0}
    history = train.run(Params.model_validate(plain))
    assert history[-1]["train_loss"] < 0.3
    assert history[-1]["val_accuracy"] == pytest.approx((data.labels[data.rows("val")] == 0).mean())
