"""Layouts of photos as people publish them, and those that mean nothing."""

from pathlib import PurePosixPath

import pytest

from ml.data.layout import Layout, recognise
from ml.model.errors import PipelineError


def tree(*patterns: str) -> list[PurePosixPath]:
    """Return paths; cat/# stands for three photos."""
    paths = [pattern.replace("#", f"{number}.jpg") for pattern in patterns for number in (1, 2, 3)]
    return [PurePosixPath(path) for path in dict.fromkeys(paths)]


def laid_out(*patterns: str, tables: dict[str, str] | None = None) -> Layout:
    return recognise("photos", tree(*patterns), (), tables)


def found(layout: Layout) -> dict[str, int]:
    return {name: list(layout.labels.values()).count(name) for name in layout.classes}


@pytest.mark.parametrize(
    "patterns",
    [
        ("cat/#", "dog/#"),
        ("pets/cat/#", "pets/dog/#"),
        ("download/pets/cat/#", "download/pets/dog/#"),
        ("cat/persian/#", "dog/#"),
        ("cat/#", "dog/#", "readme.jpg"),
        ("cat.#", "dog.#"),
        ("photos/cat_#", "photos/dog_#"),
        ("cat (1).jpg", "cat (2).jpg", "dog (1).jpg", "dog (2).jpg", "cat (3).jpg", "dog (3).jpg"),
        ("train/cat/#", "train/dog/#"),
        ("train/cat.#", "train/dog.#", "test1/#"),
    ],
)
def test_classes_without_a_split(patterns: tuple[str, ...]) -> None:
    layout = laid_out(*patterns)
    assert found(layout) == {"cat": 3, "dog": 3}
    assert set(layout.splits.values()) <= {"train"}


@pytest.mark.parametrize(
    ("patterns", "splits"),
    [
        (("train/cat/#", "train/dog/#", "test/cat/#", "test/dog/#"), {"train", "test"}),
        (("Train/cat/#", "Train/dog/#", "Valid/cat/#", "Valid/dog/#", "Test/#"), {"train", "val"}),
        (("training_set/training_set/cat/#", "training_set/training_set/dog/#", "test_set/test_set/cat/#",
          "test_set/test_set/dog/#"), {"train", "test"}),
        (("seg_train/seg_train/cat/#", "seg_train/seg_train/dog/#", "seg_test/seg_test/cat/#",
          "seg_test/seg_test/dog/#", "seg_pred/seg_pred/#"), {"train", "test"}),
        (("pets/train/cat/#", "pets/train/dog/#", "pets/validation/cat/#", "pets/validation/dog/#"),
          {"train", "val"}),
        (("cat/train/#", "cat/test/#", "dog/train/#", "dog/test/#"), {"train", "test"}),
    ],
)  # fmt: skip
def test_the_split_of_the_owner(patterns: tuple[str, ...], splits: set[str]) -> None:
    layout = laid_out(*patterns)
    assert found(layout) == {"cat": 6, "dog": 6}
    assert set(layout.splits.values()) == splits
    assert layout.splits.keys() == layout.labels.keys()


def test_a_class_may_be_called_train() -> None:
    assert found(laid_out("train/#", "bus/#", "car/#")) == {"bus": 3, "car": 3, "train": 3}
    assert found(laid_out("train/train/#", "train/bus/#", "test/train/#", "test/bus/#")) == {
        "bus": 6,
        "train": 6,
    }


@pytest.mark.parametrize(
    ("patterns", "table"),
    [
        (("images/#",), "file,label\n1.jpg,cat\n2.jpg,dog\n3.jpg,cat\n9.jpg,dog\n" + "1.jpg,cat\n" * 40),
        (("train/#", "test/9#"), "id,breed\n1,cat\n2,dog\n3,cat\n" + "2,dog\n"),
        (
            ("a/#", "images/x#"),
            "path,width,label\n./a/1.jpg,5,cat\na\\2.jpg,6,dog\na/3.jpg,5,cat\na/2.jpg,1,dog\n",
        ),
    ],
)
def test_a_table(patterns: tuple[str, ...], table: str) -> None:
    if patterns[0] == "a/#":
        patterns = ("images/a/#", "images/x#")
    for delimiter in ",;\t":
        layout = laid_out(*patterns, tables={"labels.csv": table.replace(",", delimiter)})
        assert found(layout) == {"cat": 2, "dog": 1}
        assert layout.kind == "classes in labels.csv"


def test_a_table_with_splits_and_a_table_of_other_things() -> None:
    table = "name,label,split\n1.jpg,cat,train\n2.jpg,dog,train\n3.jpg,cat,test\n2.jpg,dog,train\n"
    layout = laid_out("#", tables={"a.csv": "x,y\n1,2\n", "b.csv": table})
    assert layout.splits == {
        PurePosixPath("1.jpg"): "train", PurePosixPath("2.jpg"): "train", PurePosixPath("3.jpg"): "test"
    }  # fmt: skip


@pytest.mark.parametrize(
    "patterns",
    [
        ("cat/#",),
        ("#",),
        ("train/#", "test/#"),
        ("images/#", "masks/#"),
        ("IMG_#", "DSC_#"),
        ("train/cat/#", "train/dog/#", "test/cat/#", "test/horse/#"),
        ("cat.1.jpg", "dog.#"),
        (),
    ],
)
def test_what_means_nothing_is_refused_with_what_is_there(patterns: tuple[str, ...]) -> None:
    with pytest.raises(PipelineError, match="expected one folder of photos per class") as refused:
        laid_out(*patterns)
    for path in tree(*patterns):
        if path.parent.parts:
            assert f"{path.parent}/  3 photos" in str(refused.value)


def test_a_table_that_names_the_classes_ambiguously_is_refused() -> None:
    table = "file,colour,animal\n1.jpg,red,cat\n2.jpg,blue,dog\n3.jpg,red,cat\n1.jpg,red,cat\n"
    with pytest.raises(PipelineError, match="can't be recognised"):
        laid_out("#", tables={"labels.csv": table})
