"""model.pt: torch reads it, the service reads it without torch, and malicious files are rejected."""

import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from ml.evaluation.metrics import classification_metrics
from ml.model import bundle, checkpoint
from ml.model.errors import BundleError
from ml.model.manifest import MAX_CLASS_NAME, MAX_CLASSES, Manifest
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
    assert checkpoint.read(path).card == card
    assert torch.load(path, weights_only=True)["classes"] == ["red", "blue"]
    assert write(tmp_path / "again.pt", card) == bundle.read(path).sha256
    write(path)
    assert bundle.read(path).card == checkpoint.read(path).card == ""
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
    assert bundle.read(path).card == ""
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


def rewritten(source, target, change):
    """Write the entries of a ZIP again, each through `change(archive, name, content)`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            change(new, name, old.read(name))
    return target


def test_compressed_entries_are_refused_before_one_is_unpacked(make_model, tmp_path, capfd):
    def deflate(archive, name, content):
        if name.endswith("model.onnx"):
            content = bytes(300_000_000)
        archive.writestr(name, content, zipfile.ZIP_DEFLATED)

    bomb = rewritten(make_model(), tmp_path / "bomb.pt", deflate)
    assert bomb.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        for load in (bundle.read, checkpoint.read, lambda path: bundle.read_extras(path.read_bytes(), ())):
            with pytest.raises(BundleError, match="is compressed"):
                load(bomb)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def patched(path, entry, **fields):
    """Change what the ZIP's directory says about an entry."""
    offsets = {"flags": (8, "<H"), "compression": (10, "<H"), "packed": (20, "<I"), "size": (24, "<I")}
    data = bytearray(path.read_bytes())
    start = data.rindex(b"PK\x01\x02", 0, data.rindex(entry.encode()))
    for name, value in fields.items():
        offset, form = offsets[name]
        struct.pack_into(form, data, start + offset, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"flags": 1}, "encrypted"), ({"compression": 99}, "compressed"), ({"compression": 14}, "compressed"),
        ({"size": 900_000_000}, "compressed"), ({"size": 900_000_000, "packed": 900_000_000}, "overlap"),
    ],
)  # fmt: skip
def test_entries_that_torch_does_not_write_are_refused(make_model, fields, message):
    path = patched(make_model(), "extra/model.onnx", **fields)
    for load in (bundle.read, checkpoint.read):
        with pytest.raises(BundleError, match=message):
            load(path)


def test_entries_of_the_same_name_are_refused(make_model):
    path = make_model()
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/extra/model.onnx", b"another")
    with pytest.raises(BundleError, match="same name"):
        bundle.read(path)


def test_a_list_of_very_many_entries_is_refused(make_model, tmp_path):
    def wordy(archive, name, content):
        archive.writestr(name, content)
        if name.endswith("data.pkl"):
            for number in range(100):
                archive.writestr(f"archive/{number}" + "x" * 60_000, b"")

    path = rewritten(make_model(), tmp_path / "wordy.pt", wordy)
    with pytest.raises(BundleError, match="entry names"):
        bundle.read(path)


def test_a_thousand_classes_with_the_longest_names_can_be_read(tmp_path):
    classes = [f"{number:04}{'猫' * (MAX_CLASS_NAME - 4)}" for number in range(MAX_CLASSES)]
    labels = np.arange(2000) % MAX_CLASSES
    metrics = classification_metrics(np.eye(MAX_CLASSES)[labels], labels, tuple(classes), 10, 10, 0.95)
    write(tmp_path / "model.pt", classes=classes, metrics=metrics)
    assert dict(bundle.read(tmp_path / "model.pt").manifest.metrics) == metrics


def test_a_huge_pickle_or_description_is_refused(make_model, tmp_path):
    with pytest.raises(BundleError, match=r"data\.pkl.* at most"):
        bundle.read(make_model(data_pkl=b"N0" * 3_000_000))

    for opcodes in (b"(" * 300_000, b"N0" * 1_000_000):  # few bytes, but each is an object
        with pytest.raises(BundleError, match=r"its pickle has more than 200,000 opcodes"):
            bundle.read(make_model(data_pkl=b"\x80\x02" + opcodes + b"."))

    def long(archive, name, content):
        archive.writestr(name, content + b" " * 5_000_000 if name.endswith("json") else content)

    with pytest.raises(BundleError, match=r"model\.json.* at most"):
        bundle.read(rewritten(make_model(), tmp_path / "long.pt", long))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not valid JSON"), (b"[" * 100_000, "JSON|mapping"), (b"\xff\xfe", "JSON"), (b"[]", "mapping"),
        (b'{"format": ' + b"1" * 5000 + b"}", "JSON"), (b'{"format": NaN}', "NaN"),
        (b'{"mean": [-Infinity]}', "Infinity"),
    ],
)  # fmt: skip
def test_an_invalid_description_is_refused_with_one_line(make_model, tmp_path, text, message):
    def describe(archive, name, content):
        archive.writestr(name, text if name.endswith("json") else content)

    with pytest.raises(BundleError, match=message) as caught:
        bundle.read(rewritten(make_model(), tmp_path / "bad.pt", describe))
    assert str(caught.value).isprintable()


def test_tensors_larger_than_the_file_are_refused(tmp_path):
    path = tmp_path / "expanded.pt"
    state = {name: value.half() for name, value in STATE.items()}
    state["classifier.1.weight"] = torch.zeros(1).half().expand(1 << 20, 1 << 20)
    torch.save(state, path)
    with pytest.raises(BundleError, match="larger than the file"):
        checkpoint.read(path)
