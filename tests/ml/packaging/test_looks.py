"""Two looks: the first one answers where it is sure, the second elsewhere, and gives all evidence."""

import dataclasses

import numpy as np
import pytest
import torch

from ml.data.dataset import Dataset
from ml.model.networks import build
from ml.model.onnx_model import OnnxModel
from ml.model.ood import Distance
from ml.packaging.export import export
from ml.packaging.looks import Sure, at_size, combine

SMALL, FULL = 16, 32


def onnx_model(size: int, seed: int) -> bytes:
    torch.manual_seed(seed)
    network = build("simple_cnn", 2).eval()
    with torch.no_grad():  # spread its probabilities
        logits = network(torch.rand(40, 3, size, size))
        network.head.weight.mul_(2 / logits.std(0).mean())
        network.head.bias.copy_(network.head.bias - network(torch.rand(40, 3, size, size)).mean(0))
    width = network.head.in_features
    known = Distance(torch.randn(2, width) / 10, torch.eye(width))
    known.edge.fill_(2)
    return export(network, 1.0, size, known.eval())


@pytest.fixture(scope="module")
def looks():
    """The two models, and photos whose smaller version is exact: each of its pixels was four equal ones."""
    torch.manual_seed(0)
    blocks = np.random.default_rng(0).integers(0, 256, (40, SMALL, SMALL, 3), np.uint8)
    return onnx_model(SMALL, 0), onnx_model(FULL, 1), blocks, blocks.repeat(2, 1).repeat(2, 2)


def test_each_photo_has_the_answer_of_the_look_that_is_sure(looks):
    first, full, small, photos = looks
    one, two = OnnxModel(first).run(small), OnnxModel(full).run(photos)
    sure = Sure(float(np.median(one["probabilities"].max(1))), float(np.quantile(one["known"], 0.2)), 0.5)
    unsure = (one["probabilities"].max(1) < sure.probability) | (one["known"] < sure.known)
    assert 5 < unsure.sum() < 35
    model = OnnxModel(combine(first, full, sure))
    both = model.run(photos)
    for name in ("probabilities", "known"):
        expected = np.where(unsure if name == "known" else unsure[:, None], two[name], one[name])
        assert both[name] == pytest.approx(expected, abs=1e-5)
        assert not np.allclose(two[name], one[name], atol=0.05)
    assert both["evidence"] == pytest.approx(two["evidence"], abs=1e-3)

    without = model.run(photos, outputs=["known", "probabilities"])
    alone = [model.run(photo[None], outputs=["probabilities"])["probabilities"][0] for photo in photos]
    assert without["probabilities"] == pytest.approx(both["probabilities"], abs=1e-5)
    assert without["known"] == pytest.approx(both["known"], abs=1e-5)
    assert np.array(alone) == pytest.approx(both["probabilities"], abs=1e-5)


def test_a_photo_that_is_easy_is_not_looked_at_again(looks):
    """Without the evidence, which the second look makes, nothing of the second look is computed."""
    first, full, _, photos = looks
    for least, again in ((0.0, False), (1.1, True)):
        session = OnnxModel(combine(first, full, Sure(least, 0.0, 0.0)))._session
        quick, explained = (
            session.run(["evidence"], {"image": photos, "explain": np.array(explain)})[0]
            for explain in (False, True)
        )
        assert bool(quick.any()) == again
        assert explained.any()


def test_weights_that_both_looks_share_are_stored_once(looks):
    first, full, _, _ = looks
    same = onnx_model(SMALL, 1)
    assert len(combine(same, full, Sure(0.9, 0.5, 0.1))) < 1.2 * len(full)
    assert len(combine(first, full, Sure(0.9, 0.5, 0.1))) > 1.9 * len(full)


LABELS = np.arange(1000) % 2


def answers(sure: float, wrong: int = 0, known: float = 0.99):
    right = np.where(np.arange(1000) < wrong, 1 - LABELS, LABELS)
    probabilities = np.where(np.arange(2) == right[:, None], sure, 1 - sure)
    return {"probabilities": probabilities, "known": np.full(1000, known)}


@pytest.fixture
def choose(params):
    def chosen(first, full, sizes=(SMALL, FULL)):
        return Sure.choose(params.evaluate, sizes, first, full, LABELS)

    return chosen


def test_the_first_look_suffices_where_it_is_as_good(choose):
    full = answers(0.999)
    assert choose(answers(0.999), full) == Sure(0.95, 0.5, 0.0)
    mixed = answers(0.999)
    mixed["probabilities"][:200] = [0.7, 0.3]
    assert choose(mixed, full) == Sure(0.95, 0.5, 0.2)


def test_what_would_make_answers_worse_is_not_chosen(choose):
    full = answers(0.999)
    wrong = answers(0.999)
    wrong["probabilities"][5] = wrong["probabilities"][5, ::-1] * [0.96, 0.96] + 0.02  # surely wrong
    assert choose(wrong, full) == Sure(0.98, 0.5, 0.001)
    assert choose(answers(0.999, wrong=1), full) is None  # more errors, however sure
    assert choose(answers(0.96), full) is None  # a larger log loss
    strange = answers(0.999)
    strange["known"][:20] = 0.3
    assert choose(strange, full) == Sure(0.95, 0.5, 0.02)  # looked at again, so not refused
    assert choose(answers(0.999), full, (30, 32)) is None  # nothing is saved


def test_photos_are_made_smaller_as_they_are_read():
    images = np.random.default_rng(0).integers(0, 256, (5, FULL, FULL, 3), np.uint8)
    data = Dataset(
        ("a", "b"),
        FULL,
        "squash",
        images,
        np.zeros(5, np.int64),
        np.array(["val"] * 5),
        [],
        [],
        np.zeros((5, 2)),
    )
    assert at_size(data, FULL) is data
    small = at_size(data, SMALL)
    assert small.image_size == SMALL
    assert dataclasses.replace(small, images=images, image_size=FULL) == data
    means = images.reshape(5, SMALL, 2, SMALL, 2, 3).mean((2, 4))
    assert small.images[np.array([3, 1])].shape == (2, SMALL, SMALL, 3)
    assert np.abs(small.images[3] - means[3]).max() < 1
