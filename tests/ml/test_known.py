"""Whether a photo shows any of the classes: what is learnt, and what a score means."""

import numpy as np
import pytest
import torch

from ml.errors import PipelineError
from ml.known import THRESHOLD, TYPICAL, Concepts, Distance, line_for, moved, rebuild
from ml.metrics import auroc

D, CLASSES, KIN, HEAD = 64, 3, 24, 60


def places() -> torch.Tensor:
    """Where the head's classes are: the first are of one kin, as breeds are, and three of them are ours."""
    chance = torch.Generator().manual_seed(9)
    away = torch.randn(HEAD, D, generator=chance)
    away[:KIN] = away[0] * 2 + torch.randn(KIN, D, generator=chance)
    return away * 2


def features(kind: int, count: int, seed: int = 0) -> torch.Tensor:
    return places()[kind] + torch.randn(count, D, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def head() -> tuple[torch.Tensor, torch.Tensor]:
    """A pretrained head that tells all of those places apart."""
    return places() * 0.1, -places().square().sum(1) / 20  # unsure enough for scores that differ


def photos(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    parts = [features(kind, 200, seed + kind) for kind in range(CLASSES)]
    return torch.cat(parts), torch.arange(CLASSES).repeat_interleave(200)


def scores(known, some: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return known(some).double().numpy()


@pytest.mark.parametrize("method", ["concepts", "distance"])
def test_other_places_are_told_and_the_threshold_is_where_it_was_asked_for(head, method):
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
    told = np.concatenate([real, others])
    assert auroc(told, np.arange(len(told)) < len(real), 0.95).value > 0.97
    assert real.min() >= 0
    assert told.max() <= 1
    again = rebuild(method, known.state_dict())
    assert np.array_equal(scores(again, train), scores(known, train))


def test_what_is_akin_to_the_classes_is_known_too(head):
    known = Concepts.fit(photos(10)[0], head)
    akin, others = (
        known.raw(torch.cat([features(kind, 20) for kind in kinds]))
        for kinds in (range(CLASSES, KIN), range(KIN, HEAD))
    )
    assert akin.mean() > 20 * others.mean()


def test_a_line_puts_the_quantile_at_the_threshold_and_the_median_at_what_is_typical():
    some = np.random.default_rng(0).beta(30, 3, 20_000)
    found = moved(some, *line_for(some, 0.015))
    assert (found < THRESHOLD).mean() == pytest.approx(0.015, abs=1e-3)
    assert np.median(found) == pytest.approx(TYPICAL, abs=1e-6)
    assert (np.argsort(found) == np.argsort(some)).all()
    assert moved(np.array([0.0, 1.0]), *line_for(some, 0.015)).tolist() == pytest.approx([0, 1], abs=1e-3)
    same = np.full(10, 0.3)
    assert (moved(same, *line_for(same, 0.1)) > THRESHOLD).all()


@pytest.mark.parametrize(("method", "told"), [("magic", "unknown method"), ("concepts", "not the tensors")])
def test_what_is_no_method_is_refused(method, told):
    with pytest.raises(PipelineError, match=told):
        rebuild(method, {"means": torch.zeros(2, 2)})
