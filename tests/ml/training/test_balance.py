"""What classes with few photos count: their weight, and how often their photos are used."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from ml.data.dataset import Dataset
from ml.model.networks import build
from ml.training.balance import class_weights, epoch_rows
from ml.training.batches import EpochSampler
from ml.training.head import fit_head

LABELS = np.repeat([0, 1, 2], [80, 15, 5])


@pytest.mark.parametrize(("balance", "expected"), [(0, [1, 1, 1]), (1, [100 / 240, 100 / 45, 100 / 15])])
def test_how_much_a_photo_of_each_class_counts(balance, expected):
    assert class_weights(LABELS, 3, balance).tolist() == pytest.approx(expected)


def test_all_photos_together_count_as_without_weights():
    weights = class_weights(LABELS, 3, 0.5)
    assert weights[LABELS].mean().item() == pytest.approx(1)
    assert weights.tolist() == sorted(weights.tolist())


def test_a_class_without_training_photos_is_no_error():
    assert torch.isfinite(class_weights(np.zeros(9, np.int64), 2, 1.0)).all()


def test_the_weighted_head_recognises_more_of_the_rare_class():
    torch.manual_seed(0)

    def draw(common: int, rare: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.tensor([0] * common + [1] * rare)
        return torch.randn(common + rare, 128) + 0.15 * labels[:, None], labels

    (features, labels), (unseen, answers) = draw(400, 15), draw(500, 500)
    recalls, losses = [], []
    for power in (0.0, 1.0):
        network = build("simple_cnn", 2)
        fit_head(network.head, features, labels, class_weights(labels.numpy(), 2, power))
        with torch.no_grad():
            logits = network.head(unseen)
        recalls.append((logits.argmax(1) == answers)[500:].float().mean().item())
        losses.append(functional.cross_entropy(logits, answers).item())
    assert recalls[1] > recalls[0] + 0.1
    assert losses[1] < losses[0]


def test_all_classes_are_used_alike_and_each_of_their_photos():
    rows = np.arange(1000, 1100)
    order = epoch_rows(rows, LABELS, 1.0, np.random.default_rng(0))
    used = np.bincount(order - 1000, minlength=100)
    assert [used[number == LABELS].sum() for number in range(3)] == [33, 34, 33]
    assert [(used[number == LABELS].min(), used[number == LABELS].max()) for number in range(3)] == [
        (0, 1),
        (2, 3),
        (6, 7),
    ]
    assert (order != epoch_rows(rows, LABELS, 1.0, np.random.default_rng(1))).any()


@pytest.mark.parametrize(("labels", "balance"), [(LABELS, 0.0), (np.arange(99) % 3, 1.0)])
def test_without_imbalance_each_photo_is_used_once(labels, balance):
    rows = np.arange(len(labels)) + 7
    assert sorted(epoch_rows(rows, labels, balance, np.random.default_rng(0))) == rows.tolist()


def test_between_both():
    used = np.bincount(LABELS[epoch_rows(np.arange(100), LABELS, 0.5, np.random.default_rng(0))])
    assert used.tolist() == [59, 26, 15]


def test_every_batch_is_full_however_many_classes_there_are(params):
    labels = np.repeat(np.arange(200), np.random.default_rng(0).integers(8, 14, 200))
    splits = np.array(["train"] * len(labels))
    size = np.full((len(labels), 2), 8)
    data = Dataset(
        tuple(map(str, range(200))), 8, "squash", np.zeros((len(labels), 8, 8, 3), np.uint8), labels, splits,
        [], [], size,
    )  # fmt: skip
    sampler = EpochSampler(data, 32, 1.0, 0, 0, 1)
    assert [len(batch) for batch in sampler] == [32] * (len(labels) // 32)
