"""Puts reviewed photos into the data set: collected/ and collected.csv then say what the decisions say."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from ml.collected.store import Collected
from ml.data import collected
from ml.data.collected import CollectedPhoto
from ml.data.locks import locked
from ml.data.reviewed import Entry
from ml.model.errors import ImageError
from ml.model.files import replaced
from ml.model.kept_photos import Record
from ml.review.collected_items import read

COMMANDS = """dvc add collected
git add collected.csv collected.dvc collected_decisions.csv
git commit -m "Add reviewed photos"
dvc push
dvc repro"""
"""What remains to be typed after an export."""


@dataclasses.dataclass(frozen=True)
class Export:
    """What an export changed.

    Attributes:
        added: photos that were put into the data set, by class; empty: of none of them.
        moved: photos whose class has changed.
        removed: photos that are discarded or undecided again.
        missing: decided photos that are not in the store any more, or are not what they were.
        photos: in the data set now.
    """

    added: dict[str, int]
    moved: int
    removed: int
    missing: int
    photos: int


def pending(entries: Mapping[str, Entry], listed: Mapping[str, CollectedPhoto]) -> list[Entry]:
    """Return the decisions for a class or for none of them that the data set does not have yet."""
    return [
        entry
        for entry in entries.values()
        if entry.decision in ("label", "none")
        and (
            entry.id not in listed
            or (listed[entry.id].label, listed[entry.id].sha256) != (entry.label, entry.sha256)
        )
    ]


def export(
    store: Collected,
    records: Mapping[str, Record],
    entries: Mapping[str, Entry],
    folder: Path = collected.FOLDER,
) -> Export:
    """Write the decided photos, then the list of them, then delete files that are no longer listed.

    `entries` are the decisions, those that were undone included. A second call changes nothing. A photo that
    was exported stays, even after its record was deleted from the store by a retention rule;
    `ml.data.reviewed.delete` deletes it.

    Raises:
        PipelineError: another export is running, or the data set lacks a photo that it lists.
        OSError: a file cannot be written.
    """
    with locked(collected.PATH):
        for unfinished in folder.rglob(".*.part"):  # of an export that was killed
            unfinished.unlink()
        before = {photo.id: photo for photo in collected.load()}
        collected.check_present(before.values(), folder)
        after, added, missing = dict(before), dict[str, int](), 0
        for entry in pending(entries, before):
            old = before.get(entry.id)
            try:
                if old and old.sha256 == entry.sha256:
                    content, ids = old.read(folder), (old.answer, old.request)
                else:
                    content, ids = _from_store(store, records.get(entry.id), entry)
            except ImageError:
                missing += 1
                continue
            photo = CollectedPhoto(entry.id, entry.day, entry.label, entry.sha256, *ids)
            target = folder / photo.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with replaced(target) as file:
                file.write(content)
            after[photo.id] = photo
            if old is None:
                added[entry.label] = added.get(entry.label, 0) + 1
        # Without any line about a photo, it stays: the file of decisions may be an older one.
        unwanted = {entry.id for entry in entries.values() if entry.decision in ("discard", "undo")}
        after = {name: photo for name, photo in after.items() if name not in unwanted}
        if after != before:
            collected.save(after.values())
        listed = {photo.path for photo in after.values()}
        ours = before.keys() | entries.keys()
        for path, name in collected.files(folder).items():  # what an export that was killed has left, too
            if path not in listed and name in ours:
                (folder / path).unlink()
    moved = sum(name in after and after[name].label != photo.label for name, photo in before.items())
    return Export(added, moved, len(before.keys() - after.keys()), missing, len(after))


def _from_store(store: Collected, record: Record | None, entry: Entry) -> tuple[bytes, tuple[str, str]]:
    """Return the photo that a person has seen, and `answer` and `request` of its line.

    The store may have another photo under its id by now.
    """
    if record is None or record.sha256 != entry.sha256 or record.day != entry.day:
        raise ImageError("not the photo that was reviewed")
    whole = record.request_id.rpartition(".")[0] or record.request_id
    return read(store, record)[0], (collected.hashed(record.request_id), collected.hashed(whole))
