"""The head that is fitted to the features."""

import torch

from ml.model.networks import build
from ml.training.head import fit_head


def test_the_fitted_head_separates_what_can_be_separated():
    torch.manual_seed(0)
    network = build("simple_cnn", 3)
    labels = torch.arange(90) % 3
    features = torch.randn(90, 128) * 5 + 7
    features[torch.arange(90), labels] += 40
    fit_head(network, features, labels)
    with torch.no_grad():
        assert (network.head(features).argmax(1) == labels).all()
