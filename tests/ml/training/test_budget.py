"""What fits into `train.minutes`, and what the trials choose."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from ml.params import Params
from ml.training import budget, train
from ml.training.averaging import SHARES
from ml.training.budget import Plan, _Trial, fit_time, make_plan, subset
from ml.training.initial import HEAD_PHOTOS
from ml.training.train import make_fabric
from tests.helpers.killed_training import killed_after_an_epoch

pytestmark = pytest.mark.filterwarnings("ignore")  # those of MLflow


def with_minutes(params: Params, minutes: float | None) -> Params:
    plain = params.model_dump()
    plain["train"]["minutes"] = minutes
    return Params.model_validate(plain)


@pytest.mark.parametrize(
    ("affordable", "expected"),
    [
        (100_000, Plan(1e-3, 10, 2)),  # at most five times the epochs of the recipe
        (1000, Plan(1e-3, 4, 2)),
        (350, Plan(1e-3, 1, 2)),
        (240, Plan(1e-3, 1, 1)),
        (120, Plan(1e-3, 1, 1, 60 / 100 - 1 / 3)),  # the first head costs a third of an epoch
        (80, Plan(1e-3, 1, 1, 0.01, 0.6)),
        (-5, Plan(1e-3, 1, 1, 0.01, 0.01)),
    ],
)
def test_epochs_runs_and_photos_that_fit(params, affordable, expected):
    recipe = params.recipes["efficientnet_lite0"].model_copy(update={"epochs": 2, "runs": 2})
    plan = fit_time(recipe, 1e-3, affordable, steps=100, validation=10)
    assert (plan.lr, plan.epochs, plan.runs) == (expected.lr, expected.epochs, expected.runs)
    assert (plan.share, plan.head_share) == pytest.approx((expected.share, expected.head_share))


def test_a_head_of_many_photos_is_fitted_to_some(params):
    recipe = params.recipes["efficientnet_lite0"]
    photos = 10 * HEAD_PHOTOS
    steps = photos // recipe.batch_size
    plan = fit_time(recipe, 1e-3, 0.5 * steps, steps=steps, validation=0)
    assert (plan.epochs, plan.head_share) == (1, 1.0)
    assert plan.share == pytest.approx(0.5 - 0.1 / 3, abs=0.001)


def test_with_less_than_one_epoch_validation_may_keep_the_head(params, data):
    half, photos, of_head = Plan(1e-3, 1, 1, 0.25, 0.5).apply(params, data)
    assert 0.0 in half.recipe.finetuned_share
    assert not half.recipe.average_head
    counts = [len(one.rows("train")) for one in (photos, of_head, data)]
    assert counts[0] == pytest.approx(counts[2] / 4, abs=2)
    assert counts[1] == pytest.approx(counts[2] / 2, abs=2)
    whole, photos, of_head = Plan(1e-3, 1, 1).apply(params, data)
    assert whole.recipe.average_head == params.recipe.average_head
    assert 0.0 not in whole.recipe.finetuned_share
    assert photos is of_head is data


def test_the_first_head_is_fitted_to_its_own_photos(params, data, monkeypatch):
    fitted, fit = [], train.fit_initial_head
    monkeypatch.setattr(train, "make_plan", lambda *args: Plan(1e-3, 1, 1, 0.25, 0.5))
    monkeypatch.setattr(
        train, "fit_initial_head", lambda *args: (fitted.append(len(args[-1].rows("train"))), fit(*args))
    )
    plain = params.model_dump()
    plain["train"] |= {"arch": "efficientnet_lite0", "minutes": 1.0}  # it has pretrained weights
    plain["recipes"]["efficientnet_lite0"]["batch_size"] = 16
    train.run(Params.model_validate(plain))
    results = json.loads(Path("models/history.json").read_text())
    assert fitted == [pytest.approx(2 * results["photos"], abs=2)]
    assert {choice["finetuned_share"] for choice in results["choices"]} >= {0.0, *SHARES}


def test_the_start_of_each_epoch_takes_time_too(params):
    recipe = params.recipes["efficientnet_lite0"].model_copy(update={"epochs": 2, "runs": 2})
    plan = fit_time(recipe, 1e-3, 1000, steps=100, validation=10, start=110)
    assert (plan.epochs, plan.runs) == (2, 2)


def test_a_share_of_the_photos_of_each_class(data):
    half = subset(data, 1, 0.5)
    for number in range(2):
        kept = [(one.labels[one.rows("train")] == number).sum() for one in (half, data)]
        assert kept[0] == round(kept[1] / 2)
        assert (subset(data, 1, 0.0001).labels[subset(data, 1, 0.0001).rows("train")] == number).sum() == 1
    assert set(half.rows("train")) < set(data.rows("train"))
    for split in ("val", "test"):
        assert (half.rows(split) == data.rows(split)).all()
    assert (subset(data, 1, 0.5).rows("train") == half.rows("train")).all()


@pytest.mark.parametrize("best", [0.5, 1.0, 2.0])
def test_the_better_learning_rates_get_twice_the_steps(params, data, monkeypatch, best, tmp_path):
    lr, tried = params.recipe.optimizer.lr, []

    def trial(fabric, params, data, rate, steps, state):
        tried.append((rate, steps))
        return _Trial(abs(np.log(rate / (best * lr))), 0.01, 0.0)

    monkeypatch.setattr(budget, "_trial", trial)
    plan = make_plan(make_fabric("32-true"), params, data, time.monotonic() + 600, tmp_path / "trial.pt")
    assert plan.lr == pytest.approx(best * lr)
    lengths = [steps for _, steps in tried[1:]]
    assert lengths == [lengths[0]] * 3 + [2 * lengths[0]] * 2
    assert plan.epochs == 15


def test_without_time_for_trials_the_learning_rate_is_the_recipes(params, data, monkeypatch, tmp_path):
    tried = []
    monkeypatch.setattr(budget, "_trial", lambda *args: tried.append(1) or _Trial(1.0, 60.0, 0.0))
    plan = make_plan(make_fabric("32-true"), params, data, time.monotonic() + 60, tmp_path / "trial.pt")
    assert len(tried) == 1
    assert (plan.lr, plan.epochs, plan.runs) == (params.recipe.optimizer.lr, 1, 1)
    assert plan.share < 1


def test_a_resumed_training_keeps_its_plan(params, data, monkeypatch):
    params = with_minutes(params, 0.05)
    with killed_after_an_epoch(of=lambda loop: "trial" not in loop.state.name):
        train.run(params)
    (plan,) = Path("models").glob("unfinished-*-plan.json")
    epochs = json.loads(plan.read_text())["epochs"]
    assert not list(Path("models").glob("*trial*"))
    monkeypatch.setattr(train, "make_plan", None)
    history = train.run(params)
    assert len(history) == epochs
    assert not list(Path("models").glob("unfinished*"))
    recipe = json.loads(Path("models/history.json").read_text())["recipe"]
    assert recipe["epochs"] == epochs
    assert set(recipe["finetuned_share"]) >= set(SHARES)


@pytest.mark.parametrize(
    ("photos", "epochs"),
    [
        (64_000, 2),
        (3_200, 2),  # 100 steps each
        (3_199, 3),  # 99 steps each
        (800, 8),
        (20, 10),  # one step each; at most five times the epochs of the recipe
    ],
)
def test_few_photos_are_used_in_more_epochs(params, photos, epochs):
    changes = {"epochs": 2, "fewest_steps": 200, "batch_size": 32}
    recipe = params.recipes["efficientnet_lite0"].model_copy(update=changes)
    assert recipe.for_photos(photos).epochs == epochs


def test_a_training_with_few_photos_has_more_epochs(params, data, capsys):
    plain = params.model_dump()
    steps = len(data.rows("train")) // params.recipe.batch_size
    plain["recipes"][params.train.arch] |= {"epochs": 1, "fewest_steps": 2 * steps}
    history = train.run(Params.model_validate(plain))
    assert len(history) == 2
    assert history[-1]["lr"] == 0  # the schedule ends with the last epoch
    assert "2 epochs instead of 1" in capsys.readouterr().err


def test_without_minutes_nothing_is_measured(params, data, monkeypatch):
    monkeypatch.setattr(train, "make_plan", None)
    assert len(train.run(with_minutes(params, None))) == params.recipe.epochs
