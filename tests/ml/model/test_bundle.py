"""model.pt: torch reads it, the service reads it without torch, and malicious files are rejected."""

import zipfile

import pytest
import torch

from ml.model import bundle, checkpoint
from ml.model.errors import BundleError
from ml.model.manifest import Manifest
from ml.model.networks import build
from tests.conftest import colour_graph, manifest

STATE = build("simple_cnn", 2).state_dict()


def write(path, card="", **changes):
    described = Manifest.from_dict(manifest(**changes))
    return bundle.write(path, described, STATE, colour_graph(), card=card)


def test_torch_and_the_service_read_the_same_file(tmp_path):
    path = tmp_path / "model.pt"
    digest = write(path)
    content = torch.load(path, weights_only=True, mmap=True)
    assert content["classes"] == ["red", "blue"]
    assert content["format"] == 1
    assert torch.equal(content["state_dict"]["features.0.weight"], STATE["features.0.weight"])
    read = bundle.read(path)
    assert read.sha256 == digest
    assert read.onnx == colour_graph()
    assert read.manifest.to_dict() == {k: v for k, v in content.items() if k != "state_dict"}
    assert checkpoint.read(path).state_dict.keys() == STATE.keys()


def test_the_same_model_gives_the_same_bytes(tmp_path):
    assert write(tmp_path / "a.pt") == write(tmp_path / "b.pt")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.pt", "b.pt"]


def test_the_model_card_is_stored(tmp_path):
    path = tmp_path / "model.pt"
    card = "# Cats\n\n<b>ünïcode</b> | 1 |\n"
    write(path, card)
    assert bundle.read(path).card == card
    assert bundle.read_card(path.read_bytes()) == card
    assert torch.load(path, weights_only=True)["classes"] == ["red", "blue"]
    assert write(tmp_path / "again.pt", card) == bundle.read(path).sha256
    write(path)
    assert bundle.read(path).card == bundle.read_card(path.read_bytes()) == ""
    assert not any(name.endswith("README.md") for name in zipfile.ZipFile(path).namelist())


def test_the_model_card_has_a_maximum_size(tmp_path):
    path = tmp_path / "model.pt"
    write(path, "é" * (bundle.MAX_CARD_BYTES // 2))
    assert len(bundle.read(path).card) == bundle.MAX_CARD_BYTES // 2
    with pytest.raises(BundleError, match="model card of 65,538 bytes"):
        write(path, "é" * (bundle.MAX_CARD_BYTES // 2 + 1))


@pytest.mark.parametrize("bad", [b"a" * (bundle.MAX_CARD_BYTES + 1), b"\xff\xfe", b"\xed\xa0\x80"])
def test_an_invalid_model_card_is_ignored(make_model, bad):
    path = make_model(card=bad)
    assert bundle.read(path).card == bundle.read_card(path.read_bytes()) == ""
    assert bundle.read(path).manifest.version == "test-1"


def test_a_damaged_model_card_is_ignored(make_model):
    path = make_model(card=b"what was written")
    data = path.read_bytes()
    assert data.count(b"what was written") == 1  # stored, not compressed
    path.write_bytes(data.replace(b"what was written", b"what was wr1tten"))
    assert bundle.read(path).card == ""


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_rejected(tmp_path, share):
    path = tmp_path / "model.pt"
    write(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BundleError, match="cut short"):
        bundle.read(path)


def test_a_plain_checkpoint_and_another_zip_say_what_they_are(tmp_path):
    torch.save(STATE, tmp_path / "plain.pt")
    with pytest.raises(BundleError, match=r"without extra/model\.json"):
        bundle.read(tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(BundleError, match=r"not one that torch\.save wrote"):
        bundle.read(tmp_path / "other.zip")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"arch": "resnet"}, "resnet"), ({"format": 2}, "format"), ({"classes": ["one"]}, "classes"),
        ({"classes": ["a", "a"]}, "classes"), ({"classes": "ab"}, "classes"),
        ({"image_size": -1}, "image_size"), ({"temperature": 0}, "temperature"),
        ({"temperature": "hot"}, "temperature"), ({"std": [0, 1, 1]}, "std"),
        ({"resize": "fit"}, "resize"), ({"mean": [float("nan")] * 3}, "mean"),
    ],
)  # fmt: skip
def test_an_invalid_field_of_the_description_is_named(changes, word):
    with pytest.raises(BundleError, match=word):
        Manifest.from_dict(manifest() | changes)


def test_a_missing_key_is_named_and_an_unknown_one_ignored():
    plain = manifest()
    del plain["version"]
    with pytest.raises(BundleError, match="version"):
        Manifest.from_dict(plain)
    assert Manifest.from_dict(manifest() | {"later": 1}).arch == "simple_cnn"
