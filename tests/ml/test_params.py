"""params.yaml: what is misspelt or out of range is named."""

import subprocess
import sys

import pytest

from ml import params, set_params
from ml.model.errors import PipelineError
from ml.model.manifest import ARCHITECTURES, LIBRARIES
from ml.model.networks import network_class
from tests.helpers.params import copy_params
from tests.helpers.paths import ROOT


@pytest.fixture
def copy(tmp_path):
    return copy_params(tmp_path)


def test_every_architecture_has_a_recipe():
    assert set(params.load(ROOT / "params.yaml").recipes) == {*ARCHITECTURES, *LIBRARIES}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_without_pretrained_weights_a_recipe_relies_on_none(arch):
    recipe = params.load(ROOT / "params.yaml").recipes[arch]
    if not network_class(arch).pretrained:
        assert (recipe.runs, recipe.freeze_batch_norm) == (1, False)


def test_assign_changes_no_other_line(copy):
    before = copy.read_text()
    set_params.assign({"ingest.source": "photos.zip", "recipes.efficientnet_lite0.epochs": "7"}, copy)
    loaded = params.load(copy)
    assert (loaded.ingest.source, loaded.recipe.epochs) == ("photos.zip", 7)
    changed = set(copy.read_text().splitlines()) - set(before.splitlines())
    assert changed == {"  source: photos.zip", "    epochs: 7"}
    set_params.assign({"ingest.source": "oxford-pets", "recipes.efficientnet_lite0.epochs": "2"}, copy)
    assert copy.read_text() == before


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("epochs: 2", "epoch: 2", "epoch"), ("epochs: 2", "epochs: none", "efficientnet_lite0.epochs"),
        ("arch: efficientnet_lite0", "arch: vgg", r"train\.arch"),
        ("val_share: 0.1", "val_share: 0.9", "val_share"), ("center_crop\n", "fit\n", "resize"),
        ("\n  image_size: 0", "\n  image_size: 16", "prepare.image_size"),
        ("\n  image_size: 0", "\n  image_size: -1", "prepare.image_size"),
        ('body: ""', "body: resnet18", "efficientnet_lite0 takes none"),
    ],
)  # fmt: skip
def test_mistakes_are_named(copy, old, new, word):
    text = copy.read_text()
    assert old in text
    copy.write_text(text.replace(old, new))
    with pytest.raises(PipelineError, match=word):
        params.load(copy)


def test_a_library_needs_the_name_of_its_model(copy):
    for body, message in (
        ("", "name a model of timm"),
        ("hf-hub:some/one", "not a name"),
        ("../x", "not a name"),
    ):
        with pytest.raises(PipelineError, match=message):
            set_params.assign({"train.arch": "timm", "train.body": body}, copy)
    set_params.assign({"train.body": ""}, copy)
    assert params.load(copy).train.network == "efficientnet_lite0"


def test_a_second_look_joins_two_architectures_of_this_project(copy):
    set_params.assign({"train.second_look": "efficientnet_lite2"}, copy)
    train = params.load(copy).train
    assert (train.network, train.first_look) == (
        "efficientnet_lite0+efficientnet_lite2",
        "efficientnet_lite0",
    )
    with pytest.raises(
        PipelineError, match=r"second_look: both networks have to be one of .*efficientnet_lite0"
    ):
        set_params.assign({"train.second_look": "timm"}, copy)
    with pytest.raises(PipelineError, match="second_look: both networks"):
        set_params.assign({"train.arch": "timm", "train.body": "resnet18"}, copy)
    set_params.assign({"train.first_model": "model.pt"}, copy)
    with pytest.raises(PipelineError, match="first_model: it takes the first of two looks"):
        set_params.assign({"train.second_look": ""}, copy)


def test_a_library_and_its_model_name_the_network(copy):
    text = (
        copy.read_text()
        .replace("arch: efficientnet_lite0", "arch: timm")
        .replace('body: ""', "body: resnet18.a1_in1k")
    )
    copy.write_text(text)
    assert params.load(copy).train.network == "timm/resnet18.a1_in1k"
    assert params.load(copy).recipe == params.load(copy).recipes["efficientnet_lite0"]


def test_missing_file_and_unknown_parameter(tmp_path, copy):
    with pytest.raises(PipelineError, match="missing"):
        params.load(tmp_path / "none.yaml")
    with pytest.raises(PipelineError, match=r"train\.speed"):
        set_params.assign({"train.speed": "1"}, copy)
    with pytest.raises(PipelineError, match=r"efficientnet_lite0\.epochs"):
        set_params.assign({"recipes.efficientnet_lite0.epochs": "-1"}, copy)


def test_a_value_that_one_recipe_shares_with_another_is_set_in_one_only(copy):
    set_params.assign({"train.arch": "simple_cnn_legacy"}, copy)
    both = params.load(copy)
    shared = both.recipes["simple_cnn"]
    assert both.recipe.optimizer.lr == 1e-3
    assert both.recipe == shared.model_copy(
        update={"optimizer": shared.optimizer.model_copy(update={"lr": 1e-3})}
    )
    changes = {"recipes.simple_cnn_legacy.augment.flip": "0", "recipes.simple_cnn_legacy.epochs": "5"}
    set_params.assign(changes, copy)
    changed = params.load(copy)
    assert (changed.recipe.augment.flip, changed.recipe.epochs) == (0, 5)
    assert changed.recipe.augment.crop_min_area == 0.3
    assert changed.recipes["simple_cnn"] == shared


def test_architectures_are_listed_without_torch():
    script = "import sys; from ml.params import load; load(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train.seed=[0.01"], 1, "error: train.seed: not valid YAML"),
        (["x=[0.01"], 1, "error: params.yaml has no parameter x"),
        (["ingest.source.x=1"], 1, "error: params.yaml has no parameter ingest.source.x"),
        (["train.seed=1", "train.arch=vgg"], 1, "params.yaml: train.arch: unknown architecture 'vgg'"),
        (["train=1"], 1, "error: params.yaml: train: Input should be"),
        (["train.minutes=.inf"], 1, "train.minutes: Input should be a finite number"),
        (["train.minutes=1e300"], 1, "train.minutes: Input should be less than or equal to 1000000"),
        (["train.seed=-1"], 1, "train.seed: Input should be greater than or equal to 0"),
        (["train.seed=99999999999999999999"], 1, "train.seed: Input should be less than 4294967296"),
        (
            ["recipes.simple_cnn.augment.hue=.nan"],
            1,
            "augment.hue: Input should be a finite number",
        ),
        (["train.seed"], 2, "'train.seed' is not of the form KEY=VALUE"),
    ],
)
def test_the_command_names_mistakes_in_a_line_and_writes_nothing(run_ml, copy, arguments, code, message):
    before = copy.read_text()
    done = run_ml("params", *arguments, folder=copy.parent)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert copy.read_text() == before


def test_the_command_sets_and_checks_values(run_ml, copy):
    done = run_ml("params", "train.seed=7", "ingest.source=a=b.zip", folder=copy.parent)
    assert done == (0, "params.yaml is valid\n", "")
    assert (params.load(copy).train.seed, params.load(copy).ingest.source) == (7, "a=b.zip")
    assert run_ml("params", folder=copy.parent).stdout == "params.yaml is valid\n"
    copy.write_text("train: [")
    for arguments in ([], ["train.seed=1"]):
        done = run_ml("params", *arguments, folder=copy.parent)
        assert done.returncode == 1
        assert done.stderr.startswith("error: params.yaml: not valid YAML: ")
        assert done.stderr.count("\n") == 1
    copy.unlink()
    for arguments in ([], ["train.seed=1"]):
        done = run_ml("params", *arguments, folder=copy.parent)
        assert done == (1, "", "error: params.yaml is missing: run this from the project's root\n")


def test_parameters_that_are_a_folder(tmp_path):
    (tmp_path / "params.yaml").mkdir()
    with pytest.raises(PipelineError, match=r"params\.yaml cannot be read: Is a directory"):
        params.load(tmp_path / "params.yaml")
