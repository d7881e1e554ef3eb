"""Photos that are unlike those of the pretraining, and what training does for them."""

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ml.model.networks import build
from ml.params import Params
from ml.training import train, unfamiliar
from ml.training.averaging import load_mean_head
from ml.training.balance import class_weights
from ml.training.head import embed, fit_head
from ml.training.trained_network import TrainedNetwork
from ml.training.unfamiliar import is_unfamiliar
from tests.helpers.killed_training import killed_after_an_epoch

pytestmark = pytest.mark.filterwarnings("ignore")  # those of MLflow


@pytest.fixture
def pretrained(params: Params) -> Params:
    """The parameters of a pretrained architecture."""
    plain = params.model_dump()
    plain["train"]["arch"] = "efficientnet_lite0"
    plain["recipes"]["efficientnet_lite0"] |= {"runs": 1, "epochs": 1, "fewest_steps": 0}
    return Params.model_validate(plain)


@pytest.fixture
def mixed(data):
    """The photos with labels that have nothing to do with what they show."""
    return dataclasses.replace(data, labels=np.random.default_rng(0).permutation(data.labels))


def decide(params, data) -> bool:
    return is_unfamiliar(train.make_fabric("32-true"), params, data)


def test_features_that_separate_the_classes(pretrained, data, capsys):
    assert not decide(pretrained, data)
    assert "unfamiliar" not in capsys.readouterr().err


def test_features_that_do_not_separate_them(pretrained, mixed, capsys):
    assert decide(pretrained, mixed)
    assert "of the training photos: the learning rate is 0.0003 instead of" in capsys.readouterr().err


@pytest.mark.parametrize(("mistakes", "expected"), [(4, False), (10, True)])
def test_mistakes_that_may_be_chance_are_not_enough(pretrained, data, monkeypatch, mistakes, expected):
    assert 4 / len(data.rows("train")) > pretrained.recipe.unfamiliar.from_error
    monkeypatch.setattr(unfamiliar, "_mistakes", lambda *_: mistakes)
    assert decide(pretrained, data) == expected


@pytest.mark.parametrize("settings", [None, {"from_error": 1.0}])
def test_it_can_be_turned_off(pretrained, mixed, settings):
    plain = pretrained.model_dump()
    recipe = plain["recipes"]["efficientnet_lite0"]
    recipe["unfamiliar"] = settings and recipe["unfamiliar"] | settings
    assert not decide(Params.model_validate(plain), mixed)


def test_networks_without_pretrained_weights_have_no_familiar_photos(params, mixed):
    plain = params.model_dump()
    plain["recipes"]["simple_cnn"]["unfamiliar"] = plain["recipes"]["efficientnet_lite0"]["unfamiliar"]
    assert not decide(Params.model_validate(plain), mixed)


def test_the_recipe_for_expectedphotos(pretrained):
    recipe, settings = pretrained.recipe, pretrained.recipe.unfamiliar
    changed = recipe.for_unfamiliar()
    assert changed.optimizer.lr == recipe.optimizer.lr * settings.lr_factor
    assert (changed.finetuned_share, changed.average_head) == (settings.finetuned_share, True)
    same = {"optimizer": recipe.optimizer, "finetuned_share": recipe.finetuned_share, "average_head": False}
    assert changed.model_copy(update=same) == recipe


def test_the_training_uses_and_records_the_settings(pretrained, mixed, monkeypatch):
    monkeypatch.setattr(train.Dataset, "load", lambda: mixed)
    with killed_after_an_epoch():
        train.run(pretrained)
    monkeypatch.setattr(train, "is_unfamiliar", None)  # the training that goes on keeps to what was decided
    train.run(pretrained)
    results = json.loads(Path("models/history.json").read_text())
    assert results["recipe"] == json.loads(pretrained.recipe.for_unfamiliar().model_dump_json())
    first, *others = results["choices"]
    assert {choice["finetuned_share"] for choice in others} == {0.5, 0.75, 1.0}
    losses = [choice["val_loss"] for choice in others]
    assert losses == sorted(losses)
    assert (first["fitted_head"], first["finetuned_share"]) == (0.5, others[0]["finetuned_share"])
    network, rows = TrainedNetwork.load(mixed).network, mixed.rows("val")
    logits = network.head(embed(network, mixed.images, rows))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(mixed.labels[rows]))
    assert loss.item() == pytest.approx(first["val_loss"], rel=1e-4)


def test_the_head_is_the_mean_of_the_trained_and_a_fitted_one(params, data):
    rows = data.rows("train")
    few = np.isin(np.arange(len(data.labels)), rows[data.labels[rows] == 1][5:])
    data = dataclasses.replace(data, splits=np.where(few, "left out", data.splits))  # imbalanced
    rows = data.rows("train")
    network = build("simple_cnn", 2)
    trained, fitted = copy.deepcopy(network.head), copy.deepcopy(network.head)
    val_loss = load_mean_head(network, params, data)
    weights = class_weights(data.labels[rows], 2, params.recipe.class_balance)
    fit_head(fitted, embed(network, data.images, rows), torch.from_numpy(data.labels[rows]), weights)
    for name in ("weight", "bias"):
        mean = (getattr(trained, name) + getattr(fitted, name)) / 2
        assert torch.allclose(getattr(network.head, name), mean, atol=1e-5)
    assert val_loss > 0
