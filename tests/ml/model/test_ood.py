"""The OOD score: fitting, calibration and storage."""

import numpy as np
import pytest
import torch

from ml.evaluation.metrics import auroc
from ml.model import ood
from ml.model.decision import THRESHOLD
from ml.model.errors import PipelineError
from ml.model.ood import TYPICAL, Concepts, Distance, apply_calibration, fit_calibration, load_score
from ml.model.reference import COMPONENTS

D, CLASSES, KIN, HEAD = 64, 3, 24, 60


def places() -> torch.Tensor:
    """Means of the head's classes: the first ones are similar, like breeds; three of those are ours."""
    chance = torch.Generator().manual_seed(9)
    away = torch.randn(HEAD, D, generator=chance)
    away[:KIN] = away[0] * 2 + torch.randn(KIN, D, generator=chance)
    return away * 2


def features(kind: int, count: int, seed: int = 0) -> torch.Tensor:
    return places()[kind] + torch.randn(count, D, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def head() -> tuple[torch.Tensor, torch.Tensor]:
    """A pretrained head that separates all of those classes."""
    return places() * 0.1, -places().square().sum(1) / 20  # unsure enough for scores that differ


def photos(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [features(kind, 200, seed + kind) for kind in range(CLASSES)]
    return torch.cat(parts), torch.arange(CLASSES).repeat_interleave(200)


def scores(known, features: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return known(features).double().numpy()


@pytest.mark.parametrize("method", ["concepts", "distance"])
def test_ood_features_get_low_scores_and_the_threshold_rejects_the_requested_share(head, method):
    train, labels = photos(10)
    known = Concepts.fit(train, head) if method == "concepts" else Distance.fit(train, labels, CLASSES)
    known.calibrate(photos(20)[0], 0.02)
    real, others = (
        scores(known, photos(30)[0]),
        scores(known, torch.cat([features(k, 40) for k in range(30, 50)])),
    )
    assert (real < THRESHOLD).mean() == pytest.approx(0.02, abs=0.02)
    assert np.median(real) == pytest.approx(TYPICAL, abs=0.01)
    assert (others < THRESHOLD).mean() > 0.9
    mixed = np.concatenate([real, others])
    assert auroc(mixed, np.arange(len(mixed)) < len(real), 0.95).value > 0.97
    assert real.min() >= 0
    assert mixed.max() <= 1
    again = load_score(method, known.state_dict())
    assert np.array_equal(scores(again, train), scores(known, train))


@pytest.mark.parametrize("method", ["concepts", "distance"])
def test_components_are_standardized_and_show_a_shift_that_the_score_does_not_need(head, method):
    train, labels = photos(10)
    known = Concepts.fit(train, head) if method == "concepts" else Distance.fit(train, labels, CLASSES)
    with torch.inference_mode():
        score, components = known.with_components(photos(30)[0])
        assert torch.equal(score, known(photos(30)[0]))
        one_class = known.with_components(features(0, 200, seed=40))[1]
    assert components.shape == (600, COMPONENTS)
    assert components.mean(0).abs().max() < 0.3
    assert components.std(0).numpy() == pytest.approx(np.ones(COMPONENTS), abs=0.3)
    assert (one_class.mean(0) - components.mean(0)).abs().max() > 0.5


def test_distance_has_its_strongest_component_first():
    chance = torch.Generator().manual_seed(3)
    strengths = torch.ones(D)
    strengths[-1] = 4
    train = torch.randn(2000, D, generator=chance) * strengths
    known = Distance.fit(train, torch.arange(2000) % 2, 2)
    shifted = torch.zeros(1, D)
    shifted[0, -1] = 8.0  # two standard deviations along the direction in which photos differ most
    with torch.inference_mode():
        values = known.with_components(shifted)[1][0].abs()
    assert values.argmax() == 0
    assert values[0] == pytest.approx(2, abs=0.3)


def test_concepts_similar_to_the_classes_get_high_scores(head):
    known = Concepts.fit(photos(10)[0], head)
    akin, others = (
        known.raw(torch.cat([features(kind, 20) for kind in kinds]))
        for kinds in (range(CLASSES, KIN), range(KIN, HEAD))
    )
    assert akin.mean() > 20 * others.mean()


def test_what_is_far_from_the_photos_gets_a_low_score_though_the_head_takes_it_for_a_class(head):
    train = photos(10)[0]
    known = Concepts.fit(train, head)
    away = torch.linalg.svd(head[0] - head[0].mean(0), full_matrices=False).Vh[-3:].sum(0)
    far = train + 40 * away
    share = Concepts.fit(train, head)
    share.distance_weight.zero_()
    assert share.raw(far).mean() > 0.9 * share.raw(train).mean()
    assert known.raw(far).mean() < 0.5 * known.raw(train).mean()


def test_models_without_a_distance_answer_as_before(head):
    train = photos(10)[0]
    known = Concepts.fit(train, head)
    known.calibrate(train, 0.02)
    old = {name: value for name, value in known.state_dict().items() if name != "distance_weight"}
    with torch.inference_mode():
        share = known.head(known.narrow(train)).softmax(1) @ known.support
        assert torch.allclose(load_score("concepts", old).raw(train), share, atol=1e-6)


def test_calibration_maps_the_quantile_to_the_threshold_and_the_median_to_typical():
    raw = np.random.default_rng(0).beta(30, 3, 20_000)
    mapped = apply_calibration(raw, *fit_calibration(raw, 0.015))
    assert (mapped < THRESHOLD).mean() == pytest.approx(0.015, abs=1e-3)
    assert np.median(mapped) == pytest.approx(TYPICAL, abs=1e-6)
    assert (np.argsort(mapped) == np.argsort(raw)).all()
    assert apply_calibration(np.array([0.0, 1.0]), *fit_calibration(raw, 0.015)).tolist() == pytest.approx(
        [0, 1], abs=1e-3
    )
    same = np.full(10, 0.3)
    assert (apply_calibration(same, *fit_calibration(same, 0.1)) > THRESHOLD).all()


@pytest.mark.parametrize("method", ["concepts", "distance"])
def test_validation_photos_that_are_unlike_the_training_photos_set_the_threshold(head, method):
    train, labels = photos(10)
    known = Concepts.fit(train, head) if method == "concepts" else Distance.fit(train, labels, CLASSES)
    shift = 8 * torch.ones(D)
    known.calibrate(photos(20)[0] + shift, 0.02)
    assert (scores(known, photos(30)[0] + shift) < THRESHOLD).mean() == pytest.approx(0.02, abs=0.03)
    assert (scores(known, photos(40)[0] + 4 * shift) < THRESHOLD).mean() > 0.9


UNUSABLE = [("magic", "unknown method"), ("concepts", "not the tensors")]


@pytest.mark.parametrize(("method", "message"), UNUSABLE)
def test_invalid_methods_are_rejected(method, message):
    with pytest.raises(PipelineError, match=message):
        load_score(method, {"means": torch.zeros(2, 2)})


@pytest.mark.parametrize("shape", [(300, 320), (320, 300)])
def test_of_a_large_head_the_strongest_directions_are_kept(shape):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    left, strengths, right = ood._strongest(matrix)
    expected = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.allclose(strengths, expected.S[: ood._WIDTH])
    assert torch.allclose(
        left * strengths @ right, expected.U[:, :256] * expected.S[:256] @ expected.Vh[:256]
    )
    assert torch.allclose(right @ right.T, torch.eye(ood._WIDTH, dtype=torch.float64))
