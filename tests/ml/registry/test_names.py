"""Each set of classes has a registered model of its own, in a real MLflow store."""

import contextlib
import re
import shutil

import mlflow
import pytest

from ml.registry import registry
from ml.registry.names import name_for

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with contextlib.chdir(folder):
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.MlflowClient().search_registered_models()
        yield folder
    mlflow.set_tracking_uri(None)


def register(name, classes=()):
    """Make a registered model; without classes, as earlier versions of this project did."""
    mlflow.MlflowClient().create_registered_model(name)
    if classes:
        digest = registry.classes_digest(classes)
        mlflow.MlflowClient().set_registered_model_tag(name, registry.CLASSES, digest)


def test_auto_is_made_from_the_classes(store):
    assert name_for("auto", ("dog", "cat")) == "cat-dog"
    sets = [
        ("a-b", "c"),
        ("a", "b-c"),
        ("a/b", "c"),
        ("a:b", "c"),
        ("\N{CAT}", "\N{DOG}"),
        ("\N{CAT}", "\N{COW}"),
    ]
    sets += [tuple(f"class number {number}" for number in range(count)) for count in (99, 100)]
    names = [name_for("auto", classes) for classes in sets]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name) for name in names)


def test_other_classes_never_share_a_name(store):
    register("mine", ("rose", "tulip"))
    assert name_for("mine", ("tulip", "rose")) == "mine"
    hands = name_for("mine", ("palm", "fist"))
    assert hands.startswith("mine-")
    register(hands, ("palm", "fist"))
    assert name_for("mine", ("palm", "fist")) == hands
    register("left-right", ("a", "b"))  # by hand
    assert name_for("auto", ("left", "right")) != "left-right"


def test_a_registered_model_without_the_tag_keeps_its_name(store, make_model):
    client = mlflow.MlflowClient()
    shutil.copy(make_model(classes=("cat", "dog")), store / "model.pt")
    for name in ("cats-vs-dogs", "pets"):
        register(name)
        client.create_model_version(name, store.as_uri())
        assert name_for(name, ("cat", "dog")) == name
        assert name_for(name, ("cat", "cow")) != name
    assert name_for("auto", ("cat", "dog")) == "cats-vs-dogs"  # the default before there was `auto`
    assert name_for("auto", ("cat", "cow")) == "cat-cow"
