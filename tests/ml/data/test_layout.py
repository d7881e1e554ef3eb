"""Layouts of photos as people publish them, and those that mean nothing."""

import re
from pathlib import PurePosixPath

import pytest

from ml.data import label_tables
from ml.data.layout import Layout, recognise
from ml.model.errors import PipelineError


def tree(*patterns: str) -> list[PurePosixPath]:
    """Return paths; cat/# stands for three photos, cat/* for three pictures of another format."""
    paths = [
        pattern.replace("#", f"{number}.jpg").replace("*", f"{number}.png")
        for pattern in patterns
        for number in (1, 2, 3)
    ]
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
        ("data/pets/cat/#", "data/pets/dog/#", "pets/cat/#", "pets/dog/#"),
        ("train/cat/#", "train/dog/#", "test/fish_#", "test/bird_#"),  # these are no classes
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
        (("Train_Alphabet/cat/#", "Train_Alphabet/dog/#", "Test_Alphabet/cat/#", "Test_Alphabet/dog/#"),
          {"train", "test"}),
        (("training/cat/#", "training/dog/#", "evaluation/cat/#", "evaluation/dog/#"), {"train", "test"}),
    ],
)  # fmt: skip
def test_the_split_of_the_owner(patterns: tuple[str, ...], splits: set[str]) -> None:
    layout = laid_out(*patterns)
    assert found(layout) == {"cat": 6, "dog": 6}
    assert set(layout.splits.values()) == splits
    assert layout.splits.keys() == layout.labels.keys()


@pytest.mark.parametrize("folder", ["pets", "train"])
def test_few_photos_beside_everything_belong_to_nothing(folder: str) -> None:
    classes = [f"{folder}/{label}/{number}#" for label in ("cat", "dog") for number in range(4)]
    assert found(laid_out(*classes, "readme.jpg")) == {"cat": 12, "dog": 12}
    with pytest.raises(PipelineError):
        laid_out(*classes, "#")


def test_a_folder_is_no_copy_of_what_it_only_resembles() -> None:
    makes = [f"{place}cars/{make}/#" for place in ("", "vehicles/") for make in ("fiat", "bmw")]
    assert found(laid_out(*makes)) == {"fiat": 3, "bmw": 3}
    assert found(laid_out(*makes, "vehicles/trucks/#")) == {"cars": 6, "vehicles": 9}


def test_folders_that_may_be_splits_or_classes_are_said_to_be_so() -> None:
    with pytest.raises(PipelineError, match="may be splits or classes: rename them"):
        laid_out("Train Station/#", "Test Tube/#")


@pytest.mark.parametrize(
    ("held_out", "other"),
    [
        ("pregnancy_test", "thermometer"),
        ("test", "rest"),
        ("val", "mountain"),
        ("covid_test", "pregnancy_test"),
    ],
)
def test_a_class_called_like_a_split_is_said_to_be_so(held_out: str, other: str) -> None:
    patterns = f"photos/{held_out}/#", f"photos/{other}/#"
    with pytest.raises(
        PipelineError, match=rf"no train: {held_out}[^:]*rename them, .* to {held_out}_class;"
    ):
        laid_out(*patterns)
    renamed = [path.replace("test/", "test_class/").replace("val/", "val_class/") for path in patterns]
    assert list(found(laid_out(*renamed)).values()) == [3, 3]


@pytest.mark.parametrize("patterns", [("train/#", "test/#"), ("test/#", "#"), ("images/#", "masks/#")])
def test_other_folders_are_not_said_to_be_classes(patterns: tuple[str, ...]) -> None:
    with pytest.raises(PipelineError) as refused:
        laid_out(*patterns)
    assert "rename" not in str(refused.value)


def test_a_photo_beside_the_splits_of_a_class_costs_no_split() -> None:
    splits = [f"{label}/{split}/#" for label in ("cat", "dog") for split in ("train", "test")]
    more = [f"{label}/train/{number}#" for label in ("cat", "dog") for number in range(8)]
    layout = laid_out(*splits, *more, "cat/cover.jpg")
    assert layout.kind == "splits in folders of classes"
    assert (found(layout), len(layout.splits)) == ({"cat": 31, "dog": 30}, 60)
    assert laid_out(*splits, "bird/#").kind == "one folder per class"


def test_an_empty_class_in_a_split_is_named() -> None:
    photos = tree("train/cat/#", "train/dog/#", "test/cat/#", "test/dog/#")
    assert recognise("photos", photos, [PurePosixPath("train/bird")]).empty == ("bird",)


def test_a_row_with_more_cells_than_titles_is_refused_if_it_names_a_photo() -> None:
    table = labels(*NAMES)
    with pytest.raises(PipelineError, match=r"2 titles, and a row of 3 cells, '1.jpg, bell pepper, red'"):
        laid_out("#", tables={"a.csv": f"{table}\n1.jpg,bell pepper, red\n"})
    commas = "\n".join(f"{row},, " for row in table.split("\n")[1:])
    for end in ("", "# a comment, with, commas", "total,1,2"):
        layout = laid_out("#", tables={"a.csv": f"file,label\n{commas}\n{end}"})
        assert found(layout) == {"cat": 2, "dog": 1}


def test_a_table_of_pixels_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_tables, "_MAX_CELLS", 10)
    with pytest.raises(PipelineError, match=r"a\.csv: it has more than 10 cells"):
        laid_out("#", tables={"a.csv": labels(*NAMES)})


def test_a_class_may_be_called_train() -> None:
    assert found(laid_out("train/#", "bus/#", "car/#")) == {"bus": 3, "car": 3, "train": 3}
    assert found(laid_out("train/train/#", "train/bus/#", "test/train/#", "test/bus/#")) == {
        "bus": 6,
        "train": 6,
    }


@pytest.mark.parametrize(
    "train",
    [("train/google_#", "train/bing_#"), ("train/steam/#", "train/electric/#")],
    ids=["several sources", "folders"],
)
def test_a_class_called_train_does_not_hide_the_others(train: tuple[str, ...]) -> None:
    layout = laid_out(*train, "bus/google_#", "bus/bing_#", "car/#")
    assert (layout.kind, found(layout)) == ("one folder per class", {"bus": 6, "car": 3, "train": 6})


def test_a_single_folder_beside_train_may_have_photos_of_no_class() -> None:
    to_predict = [f"unlabelled/{number}#" for number in range(9)]
    assert found(laid_out("train/cat_#", "train/dog_#", *to_predict)) == {"cat": 3, "dog": 3}


def test_folders_beside_the_classes_in_train_may_have_photos_of_no_class() -> None:
    classes = [f"train/{label}/{number}#" for label in ("cat", "dog") for number in range(7)]
    for others in (["unlabelled/#"], ["readme/1.jpg", "icons/1.jpg"], ["a/#", "b/#", "test/#"]):
        assert found(laid_out(*classes, *others)) == {"cat": 21, "dog": 21}


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


def labels(*files: str, column: str = "label") -> str:
    """Return a table in which 1.jpg and 3.jpg show a cat, and 2.jpg shows a dog."""
    rows = (f"{file},{'dog' if file.endswith('2.jpg') else 'cat'}" for file in files * 2)
    return "\n".join([f"file,{column}", *rows])


NAMES = ("1.jpg", "2.jpg", "3.jpg")


def splits_of(layout: Layout) -> dict[str, str]:
    return {str(path): split for path, split in layout.splits.items()}


def test_tables_with_the_same_columns_are_one_and_their_names_may_be_splits() -> None:
    tables = {
        name: labels(*(f"{split}{file}" for file in NAMES))
        for name, split in (("train.csv", "a"), ("val_labels.csv", "b"), ("test_split.csv", "c"))
    }
    layout = laid_out("a#", "b#", "c#", tables=tables | {"sample_submission.csv": labels("a1.jpg", "a2.jpg")})
    assert layout.kind == "classes in test_split.csv, train.csv, val_labels.csv"
    assert found(layout) == {"cat": 6, "dog": 3}
    assert {name: split for name, split in splits_of(layout).items() if name.endswith("1.jpg")} == {
        "a1.jpg": "train", "b1.jpg": "val", "c1.jpg": "test"
    }  # fmt: skip
    parts = laid_out("a#", "b#", tables={"1.csv": tables["train.csv"], "2.csv": tables["val_labels.csv"]})
    assert (found(parts), parts.splits) == ({"cat": 4, "dog": 2}, {})


@pytest.mark.parametrize(
    "tables",
    [
        {"train.csv": labels(*NAMES), "test.csv": labels(*NAMES)},
        {"train/labels.csv": labels(*NAMES), "test/labels.csv": labels(*NAMES)},
        {"labels.csv": labels(*(f"{split}/{name}" for split in ("train", "test") for name in NAMES))},
    ],
)
def test_folders_of_splits_whose_photos_have_the_same_names(tables: dict[str, str]) -> None:
    layout = laid_out("train/#", "test/#", tables=tables)
    assert found(layout) == {"cat": 4, "dog": 2}
    assert splits_of(layout) == {f"{split}/{name}": split for split in ("train", "test") for name in NAMES}


def test_a_cell_without_a_split_is_for_training_and_one_with_another_word_an_error() -> None:
    table = "file,label,split\n1.jpg,cat,{}\n2.jpg,dog,test\n3.jpg,cat,train\n2.jpg,dog,test\n"
    assert splits_of(laid_out("#", tables={"a.csv": table.format("")})) == {"2.jpg": "test", "3.jpg": "train"}
    with pytest.raises(
        PipelineError, match=r"a.csv: the column 'split' has 'holdout': write train, val or test"
    ):
        laid_out("#", tables={"a.csv": table.format("holdout")})


def test_columns_that_have_splits_by_chance_and_tables_beside_better_ones() -> None:
    table = "file,label,{},x\n1.jpg,cat,{},5\n2.jpg,dog,A,6\n3.jpg,cat,,7\n2.jpg,dog,A,8\n"
    for title, cell in (("dataset", "ISIC_test"), ("fold", "test"), ("set", "bullet train")):
        assert not laid_out("#", tables={"a.csv": table.format(title, cell)}).splits
    boxes = "file,width,label\n" + "".join(
        f"{name},{n},cat\n{name},{n},dog\n" for n, name in enumerate(NAMES)
    )
    assert found(laid_out("#", tables={"boxes.csv": boxes, "labels.csv": labels(*NAMES)})) == {
        "cat": 2,
        "dog": 1,
    }


def test_the_labels_of_a_test_table_may_be_made_up() -> None:
    test = [f"t{number}.jpg" for number in range(12)]
    dummies = "\n".join(["file,label", *(f"{name},?" for name in test)])
    tables = {"train.csv": labels(*NAMES), "test.csv": dummies}
    layout = laid_out("#", *test, tables=tables)
    assert found(layout) == {"cat": 2, "dog": 1}
    assert layout.remark.startswith("; left out: test.csv, whose rows all have the same label")
    tables["test.csv"] = dummies.replace("?", "")  # these photos are of no class anyway
    assert not laid_out("#", *test, tables=tables).remark


@pytest.mark.parametrize(
    ("names", "label", "more", "splits"),
    [
        (("labels.csv", "more_dogs.csv"), "dog", {"cat": 2, "dog": 13}, set()),
        (("labels.csv", "birds.csv"), "bird", {"cat": 2, "dog": 1, "bird": 12}, set()),
        (("train.csv", "val.csv"), "cat", {"cat": 14, "dog": 1}, {"train", "val"}),
    ],
)
def test_a_table_may_have_one_class_only(
    names: tuple[str, str], label: str, more: dict[str, int], splits: set[str]
) -> None:
    files = [f"x{number}.jpg" for number in range(12)]
    table = "\n".join(["file,label", *(f"{name},{label}" for name in files)])
    layout = laid_out("#", *files, tables=dict(zip(names, (labels(*NAMES), table), strict=True)))
    assert (found(layout), layout.remark) == (more, "")
    assert set(layout.splits.values()) == splits


def test_tables_may_split_the_photos_of_folders() -> None:
    names = [f"{label}/{file}" for label in ("cat", "dog") for file in NAMES]
    rows = [f"{name},{name.partition('/')[0]}" for name in names]
    tables = {
        f"{split}.csv": "\n".join(["file,label", *rows[first::2]])
        for first, split in enumerate(("train", "test"))
    }
    layout = laid_out("cat/#", "dog/#", tables=tables)
    assert (layout.kind, found(layout)) == ("one folder per class", {"cat": 3, "dog": 3})
    assert splits_of(layout) == {name: ("train", "test")[place % 2] for place, name in enumerate(names)}


@pytest.mark.parametrize(
    ("patterns", "count"),
    [
        (("cat/#", "dog/#", "pets/cat/#", "pets/dog/#"), 3),
        (("pets/cat/#", "pets/dog/#", "pets/pets/cat/#", "pets/pets/dog/#"), 3),
        (tuple(f"{outer}{split}/{label}/#" for outer in ("", "chest/") for split in ("train", "test")
               for label in ("cat", "dog")), 6),
    ],
)  # fmt: skip
def test_a_copy_of_everything_is_no_class(patterns: tuple[str, ...], count: int) -> None:
    assert found(laid_out(*patterns)) == {"cat": count, "dog": count}


def test_file_names_say_more_than_a_column_of_unknown_meaning() -> None:
    weather = "\n".join(
        ["file,weather", *(f"{name}.{n}.jpg,{n % 2}" for name in ("cat", "dog") for n in (1, 2, 3))]
    )
    assert found(laid_out("cat.#", "dog.#", tables={"weather.csv": weather})) == {"cat": 3, "dog": 3}


def test_a_photo_in_two_classes_or_splits_is_named_and_one_without_a_class_left_out() -> None:
    table = labels(*NAMES)
    assert found(laid_out("#", tables={"a.csv": table.replace("1.jpg,cat", "1.jpg,")})) == {
        "cat": 1,
        "dog": 1,
    }
    with pytest.raises(PipelineError, match=r"a.csv: 1.jpg is in two classes, 'cat' and 'dog'"):
        laid_out("#", tables={"a.csv": f"{table}\n1.jpg,dog"})
    with pytest.raises(PipelineError, match=r"1.jpg is in two splits, test and train: delete one"):
        laid_out("#", tables={"train.csv": table, "test.csv": table})


def test_folders_that_only_divide_the_photos() -> None:
    tables = {"metadata.csv": labels(*(f"images_part_{part}/{name}" for part in "12" for name in NAMES))}
    assert found(laid_out("images_part_1/#", "images_part_2/#", tables=tables)) == {"cat": 4, "dog": 2}
    with pytest.raises(PipelineError, match="expected one folder of photos per class"):
        laid_out("images_part_1/#", "images_part_2/#")
    assert found(laid_out("cat images/#", "dog images/#")) == {"cat images": 3, "dog images": 3}
    assert found(laid_out("c0/#", "c1/#")) == {"c0": 3, "c1": 3}


@pytest.mark.parametrize(
    ("column", "table", "expected"),
    [
        ("label", {"ana/1.jpg": "cat", "ana/2.jpg": "dog", "ana/3.jpg": "cat",
                   "ben/1.jpg": "cat", "ben/2.jpg": "dog", "ben/3.jpg": "cat"}, {"cat": 4, "dog": 2}),
        ("type", {"ana/1.jpg": "cat", "ana/2.jpg": "dog", "ana/3.jpg": "cat",
                  "ben/1.jpg": "cat", "ben/2.jpg": "dog", "ben/3.jpg": "cat"}, {"ana": 3, "ben": 3}),
        ("label", {"ana/1.jpg": "0", "ana/2.jpg": "0", "ana/3.jpg": "0",
                   "ben/1.jpg": "1", "ben/2.jpg": "1", "ben/3.jpg": "1"}, {"ana": 3, "ben": 3}),
        ("label", {"ana/1.jpg": "x", "ana/2.jpg": "y", "ana/3.jpg": "x",
                   "ben/1.jpg": "z", "ben/2.jpg": "z", "ben/3.jpg": "z"}, {"ana": 3, "ben": 3}),
        ("label", {"ana/1.jpg": "cat", "ana/2.jpg": "dog", "ben/1.jpg": "cat", "ben/2.jpg": "dog"},
         {"ana": 3, "ben": 3}),
    ],
    ids=["crosses the folders", "of other things", "the same by number", "parts of folders", "incomplete"],
)  # fmt: skip
def test_a_table_beside_folders(column: str, table: dict[str, str], expected: dict[str, int]) -> None:
    text = "\n".join([f"file,{column}", *(f"{file},{label}" for file, label in table.items())])
    assert found(laid_out("ana/#", "ben/#", tables={"labels.csv": text})) == expected


def test_a_few_photos_in_other_folders_than_their_label_says_leave_the_folders_valid() -> None:
    rows = [
        f"{folder}/{file},{label}" for folder, label in (("ana", "cat"), ("ben", "dog")) for file in NAMES * 5
    ]
    photos = ["ana/#", "ben/#", *(f"{folder}/{n}x.jpg" for folder in ("ana", "ben") for n in range(9))]
    more = [
        f"{folder}/{n}x.jpg,{label}" for folder, label in (("ana", "cat"), ("ben", "dog")) for n in range(9)
    ]
    table = "\n".join(["file,label", *rows, *more]).replace("ana/8x.jpg,cat", "ana/8x.jpg,dog")
    assert found(laid_out(*photos, tables={"labels.csv": table})) == {"ana": 12, "ben": 12}


def test_a_column_per_class_may_have_words() -> None:
    rows = [f"{name},{'  True,False' if '2' not in name else 'false, true'}" for name in NAMES * 2]
    layout = laid_out("#", tables={"_classes.csv": "\n".join(["file, cat, dog", *rows])})
    assert found(layout) == {"cat": 2, "dog": 1}


def test_a_table_with_a_column_per_class() -> None:
    """Of photos that show several classes or none, and of attributes, nothing is learned."""
    rows = ["1,1.0,0.0,0", "2,0,1,0", "3,1,0,0", "a1,1,0,0", "a2,0,1.0,0", "a3,1,0,0", "b1,0,1,0", "b2,0,1,0",
            "b3,1,0,0", "c1,1,0,0"]  # fmt: skip
    table = "\n".join(["image,Cat,Dog,Fox", *rows, "c2,1,1,0"])
    layout = laid_out("#", "a#", "b#", "c#", tables={"truth.csv": table})
    assert found(layout) == {"Cat": 6, "Dog": 4}
    attributes = "\n".join(["image,Young,Smiling", "1,1,0", "2,1,1", "3,0,1", "1,1,0", "2,1,1"])
    with pytest.raises(PipelineError, match="expected one folder"):
        laid_out("#", tables={"attributes.csv": attributes})


@pytest.mark.parametrize("title", ["Label", "Class Name", "class_name", "dx", "diagnosis"])
def test_titles_of_the_classes(title: str) -> None:
    table = f"id,age,{title}\n1,5,cat\n2,6,dog\n3,5,cat\n2,6,dog\n"
    assert found(laid_out("#", tables={"metadata.csv": table})) == {"cat": 2, "dog": 1}


def test_a_table_with_numbers_for_classes_beside_photos_called_by_numbers() -> None:
    table = "label,id\n" + "".join(f"{number % 3 % 2},{number}\n" for number in range(1, 4)) * 2
    assert found(laid_out("0.jpg", "#", tables={"labels.csv": table})) == {"0": 2, "1": 1}


@pytest.mark.parametrize(
    "patterns",
    [
        ("cat/#",),
        ("#",),
        ("train/#", "test/#"),
        ("images/#", "masks/#"),
        ("cat/#", "dog/#", "test/#"),
        ("IMG_#", "DSC_#"),
        ("train/cat/#", "train/dog/#", "test/cat/#", "test/horse/#"),
        ("trainA/#", "trainB/#", "testA/#", "testB/#"),
        ("train-jpg/#", "test-jpg/#"),
        ("train/cat.#", "train/dog.#", "test/cat.#", "test/bird.#"),
        ("cat.1.jpg", "dog.#"),
        (),
    ],
)
def test_what_means_nothing_is_refused_with_what_is_there(patterns: tuple[str, ...]) -> None:
    with pytest.raises(PipelineError, match="expected one folder of photos per class") as refused:
        laid_out(*patterns)
    for path in tree(*patterns):
        if path.parent.parts:
            assert re.search(rf"{path.parent}/  [36] photos", str(refused.value))


@pytest.mark.parametrize(
    ("patterns", "count"),
    [
        (tuple(f"{label}/{inner}/#" for label in ("cat", "dog") for inner in ("images", "masks")), 3),
        (tuple(f"{outer}/{label}/#" for outer in ("Images", "Masks") for label in ("cat", "dog")), 3),
        (("cat/#", "cat/1_mask.png", "cat/1_mask_1.png", "dog/#", "dog/2-Mask.gif"), 3),
        (("masks/#", "gloves/#"), 3),
        (("masks/#", "photos/#", "gloves/#"), 3),
        (("mask/#", "no_mask/#", "mask/man_mask.png", "no_mask/man.png"), 4),
        (("ana/#", "ana/1_mask.jpg", "ben/#", "ben/1_mask.jpg"), 4),  # people with and without one
        (("birds/images/cat/#", "birds/images/dog/#", "Segmentations/cat/*", "Segmentations/dog/*"), 3),
        (("cat/#", "cat/masks/*", "dog/#", "dog/masks/*"), 3),
        (("masks/*", "gloves/#"), 3),
        (("masks/new/*", "gloves/new/#"), 3),
        (("masks/images/*", "gloves/images/#"), 3),
    ],
)
def test_masks_of_photos_are_no_photos(patterns: tuple[str, ...], count: int) -> None:
    assert set(found(laid_out(*patterns)).values()) == {count}


def test_a_table_may_name_masks() -> None:
    table = labels("1_mask.png", "2.jpg", "3.jpg", "1.jpg", "4_mask.png")
    assert len(laid_out("#", "1_mask.png", "4_mask.png", tables={"labels.csv": table}).labels) == 5


def test_parts_of_the_photos_with_the_classes_in_each() -> None:
    assert found(laid_out("batch_1/cat/#", "batch_1/dog/#", "batch_2/cat/#")) == {"cat": 6, "dog": 3}
    assert found(laid_out("part1/cat/#", "part2/dog/#")) == {"cat": 3, "dog": 3}
    table = labels(
        *(f"part{part}/{eye}/{name}" for part in "12" for eye in ("left", "right") for name in NAMES)
    )
    eyes = [f"part{part}/{eye}/#" for part in "12" for eye in ("left", "right")]
    assert found(laid_out(*eyes, tables={"labels.csv": table})) == {"cat": 8, "dog": 4}


@pytest.mark.parametrize(
    ("people", "classes"),
    [(("00", "01", "02"), ("fist", "ok", "palm")), (("9173", "8863"), ("0", "1"))],
)
@pytest.mark.parametrize("copy", ["", "all/"])
def test_numbered_people_or_samples(people: tuple[str, ...], classes: tuple[str, ...], copy: str) -> None:
    photos = [f"{top}{one}/{label}/#" for one in people for label in classes for top in {"", copy}]
    layout = laid_out(*photos)
    assert found(layout) == dict.fromkeys(classes, 3 * len(people))
    assert f"if {', '.join(sorted(people))} are the classes instead" in layout.remark
    table = "file,type\n" + "".join(f"{path.as_posix()},{path.stem}\n" for path in layout.labels)
    assert found(laid_out(*photos, tables={"more.csv": table})) == found(layout)
    split = [f"{part}/{one}/{label}/#" for part in ("train", "test") for one in people for label in classes]
    assert found(laid_out(*split)) == dict.fromkeys(classes, 6 * len(people))


@pytest.mark.parametrize(
    ("names", "inner"),
    [
        (("0", "1", "2"), ("printed", "handwritten")),
        (("1", "2"), ("left", "right")),
        (("00", "01"), ("rgb", "gray")),
        (("00", "01"), ("a",)),
        (("000", "001"), ("left", "right")),
        (("1", "5", "10"), ("front", "back")),
        (("00", "01"), ("1", "2")),
        (("00", "01"), ("part_1", "part_2", "part_3")),
        (("00", "b1"), ("a", "b")),
    ],
)
def test_numbers_may_be_classes(names: tuple[str, ...], inner: tuple[str, ...]) -> None:
    photos = [f"{name}/{one}/#" for name in names for one in inner]
    assert found(laid_out(*photos)) == dict.fromkeys(names, 3 * len(inner))
    photos = [*photos, *(f"{name}/{one}/#" for name in names for one in ("c", "d", "e")), f"{names[0]}/1.jpg"]
    assert set(found(laid_out(*photos))) == {*names}


def test_folders_that_each_has_in_it_may_be_the_classes() -> None:
    each = [f"{place}/{label}/#" for place in ("home", "street") for label in ("cat", "dog")]
    assert "each contains cat, dog: if these are the classes" in laid_out(*each).remark
    split = [f"{part}/{path}" for part in ("train", "test") for path in each]
    assert "each contains cat" in laid_out(*split).remark
    renamed = [path.replace("home", "part_1").replace("street", "part_2") for path in each]
    assert found(laid_out(*renamed)) == {"cat": 6, "dog": 6}
    split = [f"{part}/{path}" for part in ("train", "test") for path in renamed]
    assert found(laid_out(*split)) == {"cat": 12, "dog": 12}
    for others in (each[:-1], ["cat/images/#", "cat/masks/#", "dog/images/#", "dog/masks/#"]):
        assert not laid_out(*others).remark


@pytest.mark.parametrize(
    "patterns",
    [
        ("part1/#", "part1/rest/#", "part2/bad/#"),
        ("part1/train/#", "part1/labelled/#", "part2/labelled/#"),
        ("part1/cat/train/#", "part1/dog/train/#", "part2/cat/test/#"),
        ("part1/images/#", "part1/thumbs/#", "part2/images/#", "part2/thumbs/#"),
    ],
)
def test_parts_of_the_photos_that_are_no_classes(patterns: tuple[str, ...]) -> None:
    with pytest.raises(PipelineError, match="expected one folder of photos per class"):
        laid_out(*patterns)


def test_several_renderings_of_the_photos_are_refused() -> None:
    patterns = [f"{colour}/{label}/#" for colour in ("color", "Segmented") for label in ("cat", "dog")]
    with pytest.raises(PipelineError, match="photos: Segmented, color seem to contain the same photos"):
        laid_out(*patterns)
    assert found(laid_out("color/#", "segmented/#")) == {"color": 3, "segmented": 3}
    assert found(laid_out("color/a/#", "segmented/b/#")) == {"color": 3, "segmented": 3}
    assert found(laid_out("gray/day1/#", "gray/day2/#", "rgb/day1/#", "rgb/day2/#")) == {"gray": 6, "rgb": 6}


def test_tables_without_titles() -> None:
    table = "\n".join(f"{name},{'dog' if name == '2.jpg' else 'cat'}" for name in NAMES)
    tables = {
        "labels.csv": f"{table}\n{table}",
        "sex.csv": f"{table}\n{table}".replace("cat", "f").replace("dog", "m"),
    }
    assert found(laid_out("#", tables=tables)) == {"cat": 2, "dog": 1}
    assert found(laid_out("#", tables={"a.csv": labels(*NAMES).replace("file", "image.jpg")})) == {
        "cat": 2,
        "dog": 1,
    }


@pytest.mark.parametrize(
    ("table", "remark"),
    [
        (labels("/data/1.jpg", "/data/2.jpg"),
         "of 4 rows, 0 name exactly one photo (column 'file'); the first that does not has '/data/1.jpg'"),
        (labels(*NAMES, "4.jpg"), "of 8 rows, 6 name exactly one photo"),
        ("file,colour,animal\n1.jpg,red,cat\n2.jpg,blue,dog\n3.jpg,red,cat\n1.jpg,red,cat\n",
         "no column is called label"),
        ("file\n1.jpg\n2.jpg\n3.jpg", "it has only the names of photos"),
        ("file,label", "it has no rows"),
        ("file,label\n1.jpg\n", "it has no rows"),
        ("\n", "it is empty"),
        (f"file,label\n1.jpg,{'x' * 200_000}", "it can't be read: field larger than"),
    ],
)  # fmt: skip
def test_the_error_says_why_a_table_was_not_used(table: str, remark: str) -> None:
    with pytest.raises(PipelineError) as refused:
        laid_out("#", tables={"labels.csv": table})
    assert f"\nlabels.csv: {remark}" in str(refused.value)
