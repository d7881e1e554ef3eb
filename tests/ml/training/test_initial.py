"""The network before its first step."""

import pytest

from ml.data.dataset import Dataset
from ml.model.errors import PipelineError
from ml.params import Params
from ml.training.initial import check_size, initial_network


@pytest.mark.parametrize(
    ("arch", "body", "size", "message"),
    [
        ("efficientnet_lite0", "", 100, ""),
        ("timm", "lcnet_050", 100, ""),
        ("timm", "vit_tiny_patch16_224", 224, ""),
        (
            "timm",
            "vit_tiny_patch16_224",
            96,
            "takes no photos of 96 pixels, but 224: set prepare.image_size to 0",
        ),
    ],
)
def test_a_transformer_takes_photos_of_one_size(params, arch, body, size, message):
    if arch == "timm":
        pytest.importorskip("timm")
    plain = params.model_dump()
    plain["train"] |= {"arch": arch, "body": body}
    changed = Params.model_validate(plain)
    if not message:
        check_size(changed, size)
        return
    with pytest.raises(PipelineError, match=message):
        check_size(changed, size)


def test_batch_normalization_without_statistics_is_not_frozen(params: Params, data: Dataset) -> None:
    plain = params.model_dump()
    plain["recipes"]["simple_cnn"]["freeze_batch_norm"] = True
    frozen = Params.model_validate(plain)
    with pytest.raises(PipelineError, match=r"set recipes\.simple_cnn\.freeze_batch_norm to false"):
        initial_network(frozen, data)
