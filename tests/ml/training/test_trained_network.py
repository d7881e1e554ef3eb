"""The checkpoint belongs to the photos that the network was trained on."""

from types import SimpleNamespace

import pytest

from ml.model.errors import PipelineError
from ml.model.networks import build
from ml.training.trained_network import TrainedNetwork

DATA = {"classes": ("blue", "red"), "image_size": 32, "resize": "squash", "digest": lambda split: split}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"classes": ("blue", "green")}, "the classes"),
        ({"image_size": 64}, "the image size 32, but the photos have 64"),
        ({"resize": "center_crop"}, "the resizing"),
        ({"digest": lambda split: split.replace("train", "relabelled")}, "was trained on other photos"),
        ({"digest": lambda split: split.replace("val", "others")}, "was trained on other photos"),
    ],
)
def test_other_photos_than_those_of_the_training_are_rejected(tmp_path, monkeypatch, change, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    TrainedNetwork(build("simple_cnn", 2), "simple_cnn", "").save(SimpleNamespace(**DATA))
    assert TrainedNetwork.load(SimpleNamespace(**DATA)).arch == "simple_cnn"
    with pytest.raises(PipelineError, match=what):
        TrainedNetwork.load(SimpleNamespace(**DATA | change))
