"""Models of torchvision and timm, with random weights in the place of downloaded ones."""

import sys

import pytest
import torch
import torchvision.models

from ml.model.answering import Answering, restore
from ml.model.checkpoint import Checkpoint
from ml.model.errors import BundleError, PipelineError
from ml.model.manifest import Manifest, is_arch
from ml.model.networks import build, network_class
from ml.model.networks.libraries import torchvision as torchvision_module
from ml.model.onnx_model import OnnxModel
from ml.packaging.export import export
from ml.packaging.quantize import _quantize

MODELS = (
    "torchvision/mobilenet_v3_small",
    "torchvision/resnet18",
    "torchvision/swin_t",
    "timm/deit_tiny_distilled_patch16_224",
    "timm/lcnet_050",
    "timm/swin_s3_tiny_224",
    "timm/vit_tiny_patch16_224",
)


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    """No test downloads weights, and none finds those of this machine."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True, raising=False)
    monkeypatch.setattr(torch.hub, "urlopen", _refuse)


def _refuse(*_, **__):
    raise OSError("no route to host")


def built(arch: str, classes: int = 3):
    if arch.startswith("timm/"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    return build(arch, classes).eval()


@pytest.mark.parametrize("arch", MODELS)
def test_inputs_features_and_evidence(arch):
    network = built(arch)
    assert network.image_size == 224
    assert all(0.4 <= mean <= 0.5 for mean in network.mean)
    images = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        features = network.map(images)
        assert torch.allclose(network.head(network.pool(features)), network(images), atol=1e-5)
        evidence = network.evidence(features)
        assert evidence.shape[:2] == (2, 3)
        assert min(evidence.shape[2:]) >= 7
    assert network.train().training
    network.head(network.embed(images)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.head.parameters())
    assert network_class(arch).pretrained


def test_a_torchvision_model_computes_what_torchvision_does(monkeypatch, tmp_path):
    """The weights come from torchvision's cache, where a machine without a network can have them too."""
    torch.manual_seed(0)
    original = torchvision.models.resnet18().eval()
    path = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    torch.save(original.state_dict(), path)
    network = built("torchvision/resnet18", 1000)
    assert network.load_pretrained()
    weight, bias = network.concepts()
    network.head.load_state_dict({"weight": weight, "bias": bias})
    images = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(network(images), original(images), atol=1e-4)


def test_a_timm_model_computes_what_timm_does(monkeypatch):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    original = timm.create_model("lcnet_050").eval()
    network = built("timm/lcnet_050", 1000)
    create = timm.create_model

    def load(name, pretrained=False, **options):
        made = create(name, **options)
        if pretrained:
            made.load_state_dict(original.state_dict(), strict=False)
        return made

    monkeypatch.setattr(timm, "create_model", load)
    assert network.load_pretrained()
    weight, bias = network.concepts()
    network.head.load_state_dict({"weight": weight, "bias": bias})
    images = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(network(images), original(images), atol=1e-4)


@pytest.mark.parametrize("arch", ["torchvision/resnet18", "timm/lcnet_050"])
def test_weights_that_cannot_be_downloaded_are_one_line(arch):
    network = built(arch)
    for load in (network.load_pretrained, network.concepts):
        with pytest.raises(
            PipelineError, match=f"no pretrained weights for {arch} .*check the network"
        ) as error:
            load()
        assert "\n" not in str(error.value)


def test_without_timm_a_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(PipelineError, match="timm is not installed: run `make dev`"):
        build("timm/resnet18", 2)


@pytest.mark.parametrize("arch", ["torchvision/mobilenet_v3_small", "timm/lcnet_050"])
def test_onnx_and_int8_answer_like_torch(arch):
    network = built(arch)
    photos = torch.randint(0, 256, (8, 224, 224, 3), dtype=torch.uint8)
    onnx = export(network, 1.0, 224)
    with torch.inference_mode():
        expected, evidence = (value.numpy() for value in Answering(network, 1.0)(photos))
    answer = OnnxModel(onnx).run(photos.numpy())
    assert answer["probabilities"] == pytest.approx(expected, abs=1e-4)
    assert answer["evidence"] == pytest.approx(evidence, abs=1e-2)
    quantized = OnnxModel(_quantize(onnx, photos.numpy())).run(photos.numpy())
    assert quantized["probabilities"] == pytest.approx(expected, abs=0.05)


def _manifest(arch: str) -> Manifest:
    return Manifest(arch, ("a", "b", "c"), 224, "squash", (0.5,) * 3, (0.2,) * 3, 1.0, {}, "", "1")


def test_a_checkpoint_is_restored():
    network = built("torchvision/resnet18")
    manifest = _manifest("torchvision/resnet18")
    restored = restore(Checkpoint(manifest, network.state_dict(), {}, ""))
    photos = torch.randint(0, 256, (2, 224, 224, 3), dtype=torch.uint8)
    expected = Answering(network, 1.0)
    expected.normalize = restored.normalize
    with torch.inference_mode():
        assert torch.allclose(restored(photos)[0], expected(photos)[0], atol=1e-4)


def test_a_file_that_names_a_huge_model_costs_no_memory(monkeypatch):
    devices = []
    split = torchvision_module._split
    monkeypatch.setattr(
        torchvision_module,
        "_split",
        lambda body: devices.append(next(body.parameters()).device.type) or split(body),
    )
    with pytest.raises(BundleError, match="do not fit torchvision/convnext_large"):
        restore(Checkpoint(_manifest("torchvision/convnext_large"), {}, {}, ""))
    assert devices == ["meta"]


def test_names():
    assert is_arch("timm/vit_base_patch16_clip_224.openai")
    assert not any(map(is_arch, ("timm", "timm/", "timm/a/b", "timm/../x", "timm/a\n", "other/resnet18", 3)))
