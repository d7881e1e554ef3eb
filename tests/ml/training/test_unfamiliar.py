"""Photos that are unlike those of the pretraining, and what training does for them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ml.model.networks import build
from ml.params import Params
from ml.training import train
from ml.training.averaging import average_head
from ml.training.balance import class_weights
from ml.training.head import embed, fit_head
from ml.training.unfamiliar import for_these_photos

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


def test_features_that_separate_the_classes_need_nothing_else(pretrained, data):
    assert for_these_photos(train.make_fabric("32-true"), pretrained, data) is pretrained


def test_features_that_do_not_separate_them(pretrained, mixed, capsys):
    recipe, special = pretrained.recipe, pretrained.recipe.unfamiliar
    changed = for_these_photos(train.make_fabric("32-true"), pretrained, mixed).recipe
    assert changed.optimizer == recipe.optimizer.model_copy(update={"lr": special.lr})
    assert (changed.finetuned_share, changed.average_head) == (special.finetuned_share, True)
    assert (
        changed.model_copy(
            update={
                "optimizer": recipe.optimizer,
                "finetuned_share": recipe.finetuned_share,
                "average_head": False,
            }
        )
        == recipe
    )
    assert "the pretrained features alone are wrong on " in capsys.readouterr().err


def test_networks_without_pretrained_weights_need_nothing_else(params, mixed):
    plain = params.model_dump()
    plain["recipes"]["simple_cnn"]["unfamiliar"] = plain["recipes"]["efficientnet_lite0"]["unfamiliar"]
    params = Params.model_validate(plain)
    assert for_these_photos(train.make_fabric("32-true"), params, mixed) is params


def test_the_training_uses_and_records_the_settings(pretrained, data, monkeypatch):
    plain = pretrained.model_dump()
    plain["recipes"]["efficientnet_lite0"]["unfamiliar"]["from_error"] = 0.0
    history = train.run(Params.model_validate(plain))
    results = json.loads(Path("models/history.json").read_text())
    assert results["recipe"]["optimizer"]["lr"] == pretrained.recipe.unfamiliar.lr
    shares = {choice["finetuned_share"] for choice in results["choices"]}
    assert shares == set(pretrained.recipe.unfamiliar.finetuned_share)
    first, *others = results["choices"]
    assert first["fitted_head"] == 0.5
    assert first["finetuned_share"] == others[0]["finetuned_share"]
    losses = [choice["val_loss"] for choice in others]
    assert losses == sorted(losses)
    assert len(history) == 1


def test_the_head_is_the_mean_of_the_trained_and_a_fitted_one(params, data):
    network = build("simple_cnn", 2)
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.zero_()
    val_loss = average_head(network, params, data)
    fitted = build("simple_cnn", 2)
    fitted.load_state_dict(network.state_dict())
    rows = data.rows("train")
    weights = class_weights(data.labels[rows], 2, params.recipe.class_balance)
    fit_head(fitted.head, embed(network, data.images, rows), torch.from_numpy(data.labels[rows]), weights)
    assert torch.allclose(2 * network.head.weight, fitted.head.weight, atol=1e-5)
    assert 0 < val_loss < np.log(2)
