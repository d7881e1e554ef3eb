"""The audit finds planted errors, and forgets what was decided."""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ml import set_params
from ml.audit import audit, contradictions
from ml.audit.find import DEFAULT_BODY, body, find, label_issues, outliers, predict_out_of_sample
from ml.audit.suspects import Suspects
from ml.data import decisions
from ml.data.dataset import Dataset
from ml.data.decisions import LabelDecision
from ml.model.errors import PipelineError
from ml.model.networks import build
from tests.ml.audit.conftest import COUNT, ODD, SAME, WRONG, reprepare


def paths(suspects, kind):
    return [suspect.paths for suspect in suspects.suspects if suspect.kind == kind]


def test_planted_errors_are_found_and_decisions_end_them(prepared, params):
    suspects = audit.run("simple_cnn", 200)
    assert suspects.classes == ["cat", "dog"]
    wrong = [path for (path,) in paths(suspects, "label") + paths(suspects, "disagreement")]
    assert set(wrong[:4]) >= set(WRONG)
    assert paths(suspects, "label")
    assert paths(suspects, "contradiction") == [sorted(SAME)]
    assert [ODD] in paths(suspects, "outlier")[:3] or ODD in wrong
    shown = [path for suspect in suspects.suspects for path in suspect.paths]
    assert len(shown) == len(set(shown))
    assert len(shown) < COUNT
    first = next(suspect for suspect in suspects.suspects if suspect.paths == [WRONG[0]])
    assert first.labels == ["cat"]
    assert next(iter(first.probabilities)) == "dog"
    assert sum(first.probabilities.values()) == pytest.approx(1, abs=0.001)

    made = {}
    for suspect in suspects.suspects:
        for path, sha256 in zip(suspect.paths, suspect.hashes, strict=True):
            dog = path in (*WRONG, *SAME)
            action = "drop" if path == ODD else "relabel" if dog else "keep"
            made[sha256] = LabelDecision(sha256, action, "dog" if dog else "", path)
    decisions.save(made.values())
    report = reprepare(params)
    assert report.dropped == {"audit": 1, "duplicate": 1}
    assert report.decided["relabel"] == len(WRONG) + len(SAME)
    data = Dataset.load()
    labels = {path: data.classes[label] for path, label in zip(data.paths, data.labels, strict=True)}
    assert {labels[path] for path in WRONG} == {"dog"}
    again = audit.run("simple_cnn", 200)
    assert not {sha256 for suspect in again.suspects for sha256 in suspect.hashes} & made.keys()
    assert not paths(again, "label") + paths(again, "contradiction")


def test_the_same_photos_are_not_computed_twice(prepared, monkeypatch):
    first = audit.run("simple_cnn", 200)
    monkeypatch.setattr("ml.audit.find.find", None)  # would fail
    assert audit.run("simple_cnn", 200) == first
    out = Path("reports/audit/suspects.json")
    for content in ("", "[]", "{}", json.dumps({"key": 1, "suspects": [1]})):
        out.write_text(content)
        assert Suspects.load(out) is None


def test_after_keeping_all_of_them_others_are_shown(prepared):
    first = {sha256 for suspect in audit.run("simple_cnn", 1).suspects for sha256 in suspect.hashes}
    decisions.save([decisions.LabelDecision(sha256, "keep") for sha256 in first], decisions.PATH)
    again = audit.run("simple_cnn", 1)
    assert again.suspects
    assert not {sha256 for suspect in again.suspects for sha256 in suspect.hashes} & first


def prepare_near_copy(params):
    """Add a copy with another label that falls into another split; return the folder of the photos."""
    raw = Path("data/raw")
    with Image.open(raw / "cat/3.png") as photo:
        for quality in range(60, 99):
            photo.save(raw / "dog/copy.jpg", quality=quality)
            if reprepare(params, near_duplicate_bits=3).dropped.get("near_duplicate"):
                break
    return raw


def test_copies_that_nearly_equal_each_other_contradict_too(prepared, params):
    raw = prepare_near_copy(params)
    dropped = Path("reports/prepare/dropped.csv")
    groups = contradictions.read(dropped, raw, {}, 96, "center_crop")
    assert ["cat/3.png", "dog/copy.jpg"] in [group.paths for group in groups]
    made = {
        sha256: LabelDecision(sha256, "keep")
        for group in contradictions.read(dropped, raw, {}, 96, "center_crop")
        for sha256 in group.hashes
    }
    assert not list(contradictions.read(dropped, raw, made, 96, "center_crop"))
    shutil.rmtree(raw)
    assert not list(contradictions.read(dropped, raw, {}, 96, "center_crop"))


def test_contradictions_are_judged_by_a_head_that_did_not_learn_from_them(prepared, params, monkeypatch):
    """`prepare` keeps one photo of near duplicates, from which the head of the last fold may have learned."""
    raw = prepare_near_copy(params)
    data, judged = Dataset.load(), []

    def predict(*arguments):
        judged.append(predict_out_of_sample(*arguments))
        judged[-1][0][:, :2] = [0.25, 0.75]
        return judged[-1]

    monkeypatch.setattr("ml.audit.find.predict_out_of_sample", predict)
    groups = list(contradictions.read(Path("reports/prepare/dropped.csv"), raw, {}, 96, "center_crop"))
    found = {
        tuple(each.paths): each.probabilities
        for each in find(data, body("simple_cnn", 2), groups, frozenset(), 5)
    }
    assert found["cat/3.png", "dog/copy.jpg"] == {"dog": 0.75, "cat": 0.25}
    assert found[tuple(sorted(SAME))] != {"dog": 0.75, "cat": 0.25}  # `prepare` kept none of these


def test_no_photo_is_judged_by_a_head_that_learned_from_it():
    """Random features cannot be predicted, but can be learned by heart."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 60)
    features = torch.from_numpy(random.normal(size=(60, 1280)).astype(np.float32))
    network = build(DEFAULT_BODY, 2)
    network.load_pretrained()
    predicted, known = predict_out_of_sample(network, features, labels)
    assert known.shape == (60,)
    assert predicted.sum(1) == pytest.approx(1)
    assert (predicted.argmax(1) == labels).mean() < 0.75


def test_a_class_with_one_photo():
    network = build(DEFAULT_BODY, 2)
    with pytest.raises(PipelineError, match="at least two photos of each class"):
        predict_out_of_sample(network, torch.zeros(5, 1280), np.array([0, 0, 0, 0, 1]))


def test_the_surest_errors_come_first():
    labels = np.array([0] * 50 + [1] * 50)
    probabilities = np.tile([0.98, 0.02], (100, 1))
    probabilities[50:] = [0.02, 0.98]
    probabilities[3], probabilities[70], probabilities[5] = [0.2, 0.8], [0.999, 0.001], [0.48, 0.52]
    wrong, disagreeing = label_issues(labels, probabilities)
    assert [*wrong, *disagreeing] == [70, 3, 5]
    assert 70 in wrong
    assert 5 in disagreeing


def test_outliers_are_both_unlike_and_unsure():
    labels = np.zeros(100, np.int64)
    own = np.linspace(0.5, 0.999, 100)
    known = np.linspace(0.9, 0.1, 100)
    known[4] = 0.12
    assert outliers(labels, np.stack([own, 1 - own], 1), known)[0] == 4
    known[98] = 1e-7  # so unlike that the prediction doesn't matter
    assert outliers(labels, np.stack([own, 1 - own], 1), known)[0] == 98
    assert len(outliers(labels, np.ones((100, 1)), np.ones(100))) == 100


def test_features_come_from_pretrained_weights():
    for arch in ("simple_cnn", DEFAULT_BODY):
        network = body(arch, 3)
        assert network.pretrained
        assert network.head.out_features == 3


def test_a_model_of_a_library_is_known_by_its_full_name(prepared, monkeypatch):
    set_params.assign({"train.arch": "torchvision", "train.body": "resnet18"}, Path("params.yaml"))
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", None)  # no network is needed
    with pytest.raises(PipelineError, match="no pretrained weights for torchvision/resnet18"):
        audit.main(argparse.Namespace(most=5, no_page=True))


def test_the_command_line(prepared, run_ml):
    done = run_ml("audit", "--no-page", folder=prepared)
    assert done.returncode == 0, done.stderr
    assert "reports/audit/suspects.json: of 5" in done.stdout
    assert "1 have several labels" in done.stdout
    assert run_ml("audit", "--most", "0", folder=prepared).returncode == 2
    (prepared / decisions.PATH).write_text("nonsense")
    done = run_ml("audit", folder=prepared)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: label_decisions.csv, line 1")
    shutil.rmtree(prepared / "data/processed")
    done = run_ml("audit", folder=prepared)
    assert done.stderr.splitlines()[-1].endswith("run `dvc repro`")
