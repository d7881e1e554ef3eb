"""Which class, and which split, each photo of a source belongs to: by its folders, its name, or a table.

Recognised are

- one folder per class, at any depth below folders that contain everything: `cat/1.jpg`, `pets/cat/1.jpg`
- a folder per split around or within them: `train/cat/1.jpg` or `cat/train/1.jpg`; so for `test` and `val`
- the class in the name, all photos in one folder: `cat.1.jpg`, `dog_2.jpg`
- a table, .csv or .tsv, with a column of file names, and one of classes or one per class, see
  `ml.data.label_tables`

Folders come first, unless they are only parts of the photos (`images_1`, `images_2`) or numbered people or
samples (`00/palm`, `01/palm`), or a table has a column called `label` or `class` that divides nearly all of
these photos in another way. Masks are left out, see `ml.data.masks`.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ml.data.label_tables import EXPLICIT, MATCHED, LabelTable, read_tables
from ml.data.masks import IMAGE_FOLDERS, MASK_FOLDERS, without_masks
from ml.data.splits import split_name, split_names
from ml.model.errors import PipelineError, one_line
from ml.model.manifest import MAX_CLASS_NAME, MAX_CLASSES
from ml.model.photos import is_visible

_GENERIC = IMAGE_FOLDERS | MASK_FOLDERS
_RENDERINGS = {"color", "colour", "rgb", "grayscale", "greyscale", "gray", "grey", "segmented"}
_PARTS = {"part", "batch", "chunk", "shard", "fold", *_GENERIC}
_NUMBERED = re.compile(r"(.*[^\W\d_])[\W_]*\d+\W*")
_CAMERA = {
    "img",
    "image",
    "dsc",
    "dscn",
    "dscf",
    "pxl",
    "mvi",
    "photo",
    "picture",
    "pic",
    "screenshot",
    "frame",
    "file",
}
_LOOSE = 0.05
"""Photos beside the one folder that has all others, as a share of those."""
_TREE_LINES = 15

_EXPECTED = """expected one folder of photos per class:
  cat/1.jpg
  dog/1.jpg
or train/cat/1.jpg, val/cat/1.jpg, test/cat/1.jpg; or names such as cat.1.jpg; or a .csv file with a column of
file names and a column called label"""
_NOT_INNER = "; each contains {}: if these are the classes, rename the outer folders to part_1, part_2, ..."
_NOT_OUTER = "; if {} are the classes instead, rename them to class_1, class_2, ..."
_PARTS_ARE_NO_CLASSES = (
    "\nFolders that differ only in a number (part_1, part_2) aren't taken for classes: rename them."
)
_SPLITS_MAY_BE_CLASSES = (
    "\nFolders that begin with train and test, and go on differently, may be splits or classes: rename them."
)
_SPLIT_MAY_BE_CLASS = (
    "\nFolders called like those for validation or test, though there is no train: {}.\nIf they are classes, "
    "rename them, for example to {}_class; if not, put those of the other photos into a folder called train."
)


@dataclass(frozen=True)
class Layout:
    """Where the photos of a source belong.

    Attributes:
        kind: what was recognised, for people.
        labels: the class of each photo by its path; photos of no class are left out.
        splits: train, val or test by path, if the owner has split the photos.
        empty: classes that have a folder but no photo.
        remark: what else it might be, and how to say so; it follows `kind`.
    """

    kind: str
    labels: dict[PurePosixPath, str]
    splits: dict[PurePosixPath, str] = field(default_factory=dict)
    empty: tuple[str, ...] = ()
    remark: str = ""

    @property
    def classes(self) -> list[str]:
        """All classes, those without a photo included."""
        return sorted({*self.labels.values(), *self.empty})


@dataclass
class _Folder:
    photos: list[PurePosixPath] = field(default_factory=list)
    folders: dict[str, "_Folder"] = field(default_factory=dict)

    def below(self) -> list[PurePosixPath]:
        """Return the photos in the folder and all that it contains."""
        return self.photos + [photo for folder in self.folders.values() for photo in folder.below()]

    def filled(self) -> dict[str, "_Folder"]:
        """Return the subfolders that contain photos."""
        return {name: folder for name, folder in self.folders.items() if folder.below()}

    def unwrapped(self) -> "_Folder":
        """Return the folder that has more in it than one folder: pets for photos/pets/cat/1.jpg.

        A few photos beside that folder, such as a picture for the readme, belong to nothing.
        """
        filled = _without_copy(self.filled())
        if len(filled) != 1:
            return self
        (inner,) = filled.values()
        return self if len(self.photos) > _LOOSE * len(inner.below()) else inner.unwrapped()


def recognise(
    source: str,
    photos: Sequence[PurePosixPath],
    folders: Sequence[PurePosixPath] = (),
    tables: Mapping[str, str] | None = None,
) -> Layout:
    """Return the layout of a source.

    Args:
        source: its name, for the error.
        photos: their paths in it.
        folders: paths of all folders, so that an empty one among those of the classes is found.
        tables: the texts of its .csv and .tsv files, by name.

    Raises:
        PipelineError: none is recognised, the message shows what is there and what was expected; or the
            table of labels contradicts itself; or there are several renderings of the photos.
    """
    top = _tree(without_masks(photos), folders).unwrapped()
    _check_renderings(source, top)
    found, remarks = read_tables(photos, tables or {})
    for layout in (_by_split(top), _by_class(top)):
        if layout is not None and len(layout.classes) > 1:
            better = next((table for table in found if _outranks(table, layout)), None)
            return _with_splits(layout, found) if better is None else _by_table(source, better)
    if found and found[0].is_certain:
        return _by_table(source, found[0])
    if layout := _by_name(top):
        return layout
    if found:
        return _by_table(source, found[0])
    if layout := _by_parts(top):
        return layout
    parts = _PARTS_ARE_NO_CLASSES if _are_parts([name.lower() for name in top.filled()]) else ""
    parts += _splits_or_classes(top.filled())
    unused = "".join(f"\n{remark}" for remark in remarks[:_TREE_LINES])
    tree = _drawn(_tree(photos, folders))
    raise PipelineError(
        f"{source}: its classes can't be recognised. It contains:\n{tree}{unused}\n{_EXPECTED}{parts}"
    )


def check_class(name: str) -> None:
    """Raise ValueError unless a name can be that of a class and of its folder."""
    if (
        not name.isprintable()
        or not name.strip() == name != ""
        or len(name) > MAX_CLASS_NAME
        or "/" in name
        or "\\" in name
        or not is_visible(PurePosixPath(name))
    ):
        raise ValueError(
            f"{one_line(name, 40)!r} cannot be the name of a class: use at most {MAX_CLASS_NAME} printable "
            "characters without slashes or backslashes, no space at its ends, no full stop at its start, and "
            "no folder name that systems use, such as __MACOSX"
        )


def _check_renderings(source: str, top: _Folder) -> None:
    filled = top.filled()
    names = {*map(str.lower, filled)}
    inner = [folder.filled().keys() for folder in filled.values()]
    alike = all(classes == inner[0] and len(classes) > 1 for classes in inner)
    if {"segmented"} < names <= _RENDERINGS and alike:
        raise PipelineError(
            f"{source}: {', '.join(sorted(filled))} seem to contain the same photos in different colours: "
            "unpack the archive if it is one, and name only one of these folders as the source"
        )


def _tree(photos: Iterable[PurePosixPath], folders: Iterable[PurePosixPath]) -> _Folder:
    root = _Folder()
    for path in folders:
        _folder(root, path.parts)
    for path in photos:
        _folder(root, path.parts[:-1]).photos.append(path)
    return root


def _folder(root: _Folder, parts: Iterable[str]) -> _Folder:
    for part in parts:
        root = root.folders.setdefault(part, _Folder())
    return root


def _by_split(top: _Folder) -> Layout | None:
    parts = {name: folder.unwrapped() for name, folder in _without_copy(top.filled()).items()}
    split_of = split_names(parts)
    if not split_of or "train" not in split_of.values():
        return None
    if len(top.photos) > _LOOSE * sum(len(part.below()) for part in parts.values()):
        return None
    folders = {name: _by_class(part) or _by_parts(part) for name, part in parts.items() if split_of[name]}
    labelled = {name: layout or _by_name(parts[name]) for name, layout in folders.items()}
    training = [layout for name, layout in labelled.items() if layout and split_of[name] == "train"]
    train = {label for layout in training for label in layout.classes}
    others = [folder for name, folder in parts.items() if not split_of[name]]
    if not train or any(folder.filled() for folder in others):  # train is the class of railways, beside bus
        return None
    beside = sum(len(folder.photos) for folder in others) > _LOOSE * len(top.below())
    # A single folder beside train has photos of no class, such as those to predict.
    if beside and len(others) > 1 and {*split_of.values()} == {"", "train"}:
        return None
    for name, layout in labelled.items():
        if layout and not train.issuperset(layout.labels.values()):
            if folders[name] or not train.isdisjoint(layout.labels.values()):
                return None
            labelled[name] = None  # names of files that only look like classes
    labels: dict[PurePosixPath, str] = {}
    splits: dict[PurePosixPath, str] = {}
    for name, layout in labelled.items():
        if layout:
            labels |= layout.labels
            splits |= dict.fromkeys(layout.labels, split_of[name])
    kind = f"classes in {', '.join(sorted(name for name, layout in labelled.items() if layout))}"
    empty = tuple({name for layout in training for name in layout.empty})
    return Layout(kind, labels, splits, empty, training[0].remark)


def _by_class(top: _Folder) -> Layout | None:
    filled = _without_copy(top.filled())
    names = [name.lower() for name in filled]
    splits = split_names(filled)
    splits_beside = splits is None or {"val", "test"} & {*splits.values()}
    if len(filled) < 2 or splits_beside or all(name in _GENERIC for name in names) or _are_parts(names):
        return None
    in_each = _in_each(filled)
    if _are_samples([*filled], in_each):
        pairs = [pair for folder in filled.values() for pair in folder.filled().items()]
        labels = {photo: name for name, folder in pairs for photo in folder.below()}
        remark = _NOT_OUTER.format(_some(sorted(filled)))
        return Layout("one folder per class in numbered folders", labels, remark=remark)
    labels = {photo: name for name, folder in filled.items() for photo in folder.below()}
    empty = tuple(top.folders.keys() - top.filled())
    inner = {name for folder in filled.values() for name in folder.filled()}
    if any(len(folder.photos) > _LOOSE * len(folder.below()) for folder in filled.values()):
        inner.add("")
    if all(map(split_name, inner)) and "train" in map(split_name, inner):
        own = {
            photo: split_name(split)
            for folder in filled.values()
            for split, part in folder.filled().items()
            for photo in part.below()
        }
        return Layout("splits in folders of classes", labels, own, empty)
    remark = _NOT_INNER.format(_some(in_each)) if in_each else ""
    return Layout("one folder per class", labels, empty=empty, remark=remark)


def _splits_or_classes(names: Collection[str]) -> str:
    """Return a hint if folders are called like splits, and may be classes: test, beside rest."""
    splits = split_names(names)
    if splits is None:
        return _SPLITS_MAY_BE_CLASSES
    held_out = sorted(name for name, split in splits.items() if split)
    if len(names) < 2 or not held_out or "train" in splits.values():
        return ""
    return _SPLIT_MAY_BE_CLASS.format(_some(held_out), one_line(held_out[0], 40))


def _some(names: Sequence[str]) -> str:
    return one_line(", ".join([*names[:4], *["..."] * (len(names) > 4)]), 100)


def _without_copy(folders: dict[str, _Folder]) -> dict[str, _Folder]:
    """Leave out a folder that has all the others in it once more, as some archives do."""
    count = len(folders) - 1
    for name, folder in folders.items() if count else []:
        inner = folder.unwrapped().filled() if count > 1 else folder.filled()
        if len(inner) < count or not (others := folders.keys() - {name}) <= inner.keys():
            continue
        # Of two folders, such as data/pets/cat and pets/cat, one may be a class that has the other in it.
        pairs = [(inner[other].filled().keys(), folders[other].filled().keys()) for other in others]
        alike = all(len(copy) > 1 and copy == original for copy, original in pairs)
        if count > 1 or (alike and len(inner) == 1 and not folder.photos):
            return {other: folders[other] for other in folders if other != name}
    return folders


def _by_parts(top: _Folder) -> Layout | None:
    """Recognise batch_1/cat/1.jpg, batch_2/cat/2.jpg."""
    parts = top.filled()
    if not _are_parts([name.lower() for name in parts]) or any(part.photos for part in parts.values()):
        return None
    merged = _Folder()
    for part in parts.values():
        for name, inner in part.filled().items():
            if name.lower() in _GENERIC or any(map(split_name, (name, *inner.filled()))):
                return None
            merged.folders.setdefault(name, _Folder()).photos += inner.below()
    return _by_class(merged)


def _are_parts(names: Sequence[str]) -> bool:
    """Return whether the folders only divide the photos: images_part_1, images_part_2."""
    common = {match and match[1] for match in map(_NUMBERED.fullmatch, names)}
    return len(common) == 1 and not _PARTS.isdisjoint(re.findall(r"[^\W\d_]+", str(*common)))


def _are_samples(names: Sequence[str], in_each: Sequence[str]) -> bool:
    """Return whether folders are numbered people or samples, with photos of the same classes in each.

    Numbers counted from 0 or 1 are classes, such as digits, whatever is in them. So are those with two
    folders in each, such as banknotes (front and back) or irises (left and right), unless these are 0 and 1.
    """
    counted = [{str(number + first) for number in range(len(names))} for first in (0, 1)]
    if {*names} in counted or not all(map(str.isdecimal, names)):
        return False
    return len(in_each) > 2 or [*in_each] == ["0", "1"]


def _in_each(folders: Mapping[str, _Folder]) -> list[str]:
    """Return the subfolders' names if nearly all folders have the same ones: these may be the classes."""
    inner = [folder.filled().keys() for folder in folders.values()]
    names = sorted({name for each in inner for name in each})
    if any(folder.photos for folder in folders.values()) or _are_parts([name.lower() for name in names]):
        return []
    if len(names) < 2 or any(name.lower() in _GENERIC | _RENDERINGS or split_name(name) for name in names):
        return []
    return names if sum(each == {*names} for each in inner) >= MATCHED * len(folders) else []


def _by_name(top: _Folder) -> Layout | None:
    """Recognise cat.1.jpg, if every photo is called like that and no class has only one photo."""
    if top.filled() or not top.photos:
        return None
    matches = {photo: _NUMBERED.fullmatch(photo.stem) for photo in top.photos}
    labels = {photo: match[1] for photo, match in matches.items() if match}
    counts = Counter(labels.values())
    if len(labels) < len(matches) or min(counts.values()) < 2 or _CAMERA & {name.lower() for name in counts}:
        return None
    return Layout("classes in the names of the files", labels) if 1 < len(counts) <= MAX_CLASSES else None


def _by_table(source: str, table: LabelTable) -> Layout:
    if table.error:
        raise PipelineError(f"{source}: {table.error}")
    return Layout(f"classes in {table.names}", table.labels, table.splits, remark=table.remark)


def _outranks(table: LabelTable, folders: Layout) -> bool:
    """Return whether a table has classes for nearly all photos, and many of these cross the folders."""
    both = folders.labels.keys() & table.labels.keys()
    if table.error or table.column not in EXPLICIT or len(both) < MATCHED * len(folders.labels):
        return False
    pairs = [(table.labels[photo], folders.labels[photo]) for photo in both]
    return not _decides(pairs) and not _decides([(folder, label) for label, folder in pairs])


def _decides(pairs: Sequence[tuple[str, str]]) -> bool:
    """Return whether in nearly all pairs the first name decides the second, and no second one is left out."""
    largest: dict[str, tuple[int, str]] = {}
    for (one, other), count in Counter(pairs).items():
        largest[one] = max((count, other), largest.get(one, (0, "")))
    counts, others = zip(*largest.values(), strict=True)
    return sum(counts) >= MATCHED * len(pairs) and {*others} == {other for _, other in pairs}


def _with_splits(folders: Layout, tables: Iterable[LabelTable]) -> Layout:
    """Return a layout that has no splits with those of a table, if it has one for nearly all photos."""
    for table in tables:
        splits = {photo: split for photo, split in table.splits.items() if photo in folders.labels}
        if not folders.splits and not table.error and len(splits) >= MATCHED * len(folders.labels):
            return dataclasses.replace(folders, splits=splits)
    return folders


def _drawn(root: _Folder) -> str:
    lines = []

    def draw(folder: _Folder, path: str, depth: int) -> None:
        if folder.photos or not folder.folders:
            lines.append(f"  {path or './'}  {len(folder.photos):,} photos")
        for name, inner in sorted(folder.folders.items()):
            draw(inner, f"{path}{name}/", depth + 1)

    draw(root, "", 0)
    more = [f"  and {len(lines) - _TREE_LINES:,} more folders"] if len(lines) > _TREE_LINES else []
    return "\n".join(lines[:_TREE_LINES] + more)
