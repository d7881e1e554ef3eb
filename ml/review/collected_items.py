"""Collected photos as items of the page: which come first, which belong together, and what is written."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tqdm import tqdm

from ml.collected.store import Collected
from ml.data import reviewed
from ml.data.duplicates import difference_hash
from ml.local_model import LocalModel
from ml.model.careful import CarefulDecoder
from ml.model.errors import ImageError, PipelineError, UnsupportedImageError
from ml.model.explain import explain
from ml.model.formats.structure import Structure
from ml.model.host import available_cpus
from ml.model.image import inspect
from ml.model.kept_photos import CONTRADICTED, MAX_SIDE, RANDOM, UNKNOWN, UNSURE, Record
from ml.review import figures
from ml.review.groups import group
from ml.review.items import LABEL, Action, Choice, Item, Picture
from ml.review.ordering import informative_first, kind_of, mixed

_HASHED_SIDE = 224  # pixels, of the square that near-duplicates are found by
_MAX_DECODE_BYTES = 256 << 20
_CPU_S, _SECONDS = 5, 60.0  # that decoding a photo may take; one of 1,024 pixels takes some milliseconds
_VERSION = re.compile(r"[\w.+-]{1,100}", re.ASCII)
_RANDOM = (
    "It belongs to the random sample, which measures the accuracy. "
    "So decide without the answer of the service."
)


class CollectedItems:
    """The undecided photos of a store; see `ml.review.items.Items`.

    Attributes:
        unusable: number of photos that were left out because they are not what their record describes.
    """

    title = "Photo review"
    shared = True
    kinds: Mapping[str, str] = {
        CONTRADICTED: "contradicted by feedback",
        UNKNOWN: "answered as unknown",
        UNSURE: "unsure answers",
        RANDOM: "random sample",
    }
    actions: Sequence[Action] = (Action("none", "None of them", "n"), Action("discard", "Discard", "d"))
    next_step = "`python -m ml review SOURCE --export` puts them into the data set"

    def __init__(
        self,
        store: Collected,
        records: Sequence[Record],
        model: LocalModel,
        max_bits: int,
        confidence: float,
    ) -> None:
        """Look at all photos that are not decided yet.

        Args:
            store: has the photos.
            records: all of the store.
            model: has the classes, and shows the evidence.
            max_bits: number of bits in which near-duplicates may differ, as `prepare.near_duplicate_bits`.
            confidence: of the interval of the accuracy.

        Raises:
            PipelineError: the decisions cannot be read.
        """
        self.path = reviewed.PATH
        self.classes: Sequence[str] = model.manifest.classes
        self._store, self._model, self._confidence = store, model, confidence
        self._decoder = CarefulDecoder(
            _MAX_DECODE_BYTES, available_cpus(), MAX_SIDE**2, cpu_s=_CPU_S, seconds=_SECONDS
        )
        self.reload()
        undecided = [record for record in records if record.id not in self._entries]
        with ThreadPoolExecutor(available_cpus()) as pool:
            hashes = pool.map(self._hash, undecided)
            codes = list(tqdm(hashes, "photos", len(undecided), disable=not undecided))
        usable = [(record, code) for record, code in zip(undecided, codes, strict=True) if code]
        self.unusable = len(undecided) - len(usable)
        # Random photos are in no group and in the order of their ids: the answers must not decide which ones
        # somebody looks at.
        sample = [[record] for record, _ in usable if kind_of(record) == RANDOM]
        sample.sort(key=lambda part: part[0].id)  # which are random, so no day comes first
        rest = [each for each in usable if kind_of(each[0]) != RANDOM]
        rest.sort(key=lambda each: informative_first(each[0]))
        rows = group([code for _, code in rest], max_bits)
        groups = mixed([[rest[row][0] for row in part] for part in rows], sample)
        self._groups = {part[0].id: part for part in groups}
        self._records = {record.id: record for part in groups for record in part}
        self.items: Sequence[Item] = [_item(part) for part in groups]

    def reload(self) -> None:
        """Read the decisions again."""
        self._entries = reviewed.load(self.path)

    def choices(self) -> dict[str, Choice]:
        """Return the decisions about the items."""
        made = {name: self._entries.get(name) for name in self._groups}
        return {
            name: Choice(LABEL if entry.label else entry.decision, entry.label)
            for name, entry in made.items()
            if entry
        }

    def decide(self, item: Item, choice: Choice | None) -> None:
        """Append a decision about all photos of a group."""
        verdict: reviewed.Verdict = "undo"
        if choice is not None:
            verdict = "label" if choice.label else "none" if choice.action == "none" else "discard"
        time, label = reviewed.now(), choice.label if choice else ""
        entries = [self._entry(record, time, verdict, label) for record in self._groups[item.id]]
        reviewed.append(entries, self.path)
        present = dict(self._entries)  # another thread may be counting the old ones
        for entry in entries:
            present.pop(entry.id, None)
            if choice is not None:
                present[entry.id] = entry
        self._entries = present

    def words(self, item: Item, choice: Choice) -> str:
        """Return a decision in words."""
        others = {"none": "None of the classes", "discard": "Discarded"}
        return choice.label or others[choice.action]

    def photo(self, photo: str) -> bytes:
        """Return what decides the pixels of a photo's JPEG, without anything else that is in its file."""
        return self._read(self._records[photo])[1].essential

    def evidence(self, photo: str) -> dict[str, Any] | None:
        """Return the present model's evidence for its most likely class."""
        record, manifest = self._records[photo], self._model.manifest
        if kind_of(record) == RANDOM:
            return None
        decoded, _ = self._decoder.read(self._read(record)[0], manifest.image_size, manifest.resize)
        outputs = self._model.run(decoded.pixels[None])
        if "evidence" not in outputs:
            return None
        likeliest = int(outputs["probabilities"][0].argmax())
        shown = explain(outputs["evidence"][0], likeliest, decoded, manifest.resize)
        return {"label": manifest.classes[likeliest], "box": shown.box, "overlay": shown.overlay}

    def figures(self) -> str:
        """Return the accuracy on the random sample."""
        return figures.in_words(self._entries.values(), self._confidence)

    def _hash(self, record: Record) -> bytes:
        """Return the difference hash of a photo, or of a flat one the SHA-256; nothing if it is unusable."""
        with contextlib.suppress(ImageError):
            decoded, _ = self._decoder.read(self._read(record)[0], _HASHED_SIDE, "center_crop")
            return difference_hash(decoded.pixels) or bytes.fromhex(record.sha256)
        return b""

    def _read(self, record: Record) -> tuple[bytes, Structure]:
        """Return a photo and its structure; raise ImageError unless it is what the service writes."""
        return read(self._store, record)

    def _entry(self, record: Record, time: str, verdict: reviewed.Verdict, label: str) -> reviewed.Entry:
        """Return the line about a photo, in which nothing is text that the store is free to choose."""
        answer, version = record.answer["label"], record.model["version"]
        facts = (
            record.day,
            " ".join(sorted(set(record.reasons))),
            answer if answer in (UNKNOWN, *self.classes) else reviewed.ANOTHER,
            version if _VERSION.fullmatch(version) else "another",
        )
        return reviewed.Entry(time, record.id, record.sha256, verdict, label, *facts)


def read(store: Collected, record: Record) -> tuple[bytes, Structure]:
    """Return a photo and its structure, before anything decodes it.

    Raises:
        ImageError: it cannot be read, is not the one that the record describes, or not an upright JPEG of the
            size that the service writes.
    """
    try:
        content = store.photo(record)
    except PipelineError as error:
        raise ImageError(str(error)) from error
    photo = inspect(content, MAX_SIDE**2)
    if photo.kind != "JPEG" or photo.orientation != 1 or max(photo.width, photo.height) > MAX_SIDE:
        raise UnsupportedImageError(f"not an upright JPEG of at most {MAX_SIDE} pixels")
    return content, photo


def _item(part: list[Record]) -> Item:
    first, several = part[0], len(part) > 1
    kind = kind_of(first)
    photos = [Picture(record.id, f"{record.day}, {record.id[:8]}") for record in part]
    question = f"What do these {len(part)} photos show?" if several else "What does this photo show?"
    if kind == RANDOM:
        return Item(first.id, kind, photos, question, _RANDOM)
    likeliest = dict(sorted(first.answer["probabilities"].items(), key=lambda each: -each[1]))
    label, share = next(iter(likeliest.items()))
    other = "" if first.answer["label"] == label else f"“{first.answer['label']}”; the likeliest class is "
    reason = [f"The service answered {other}“{label}”, {share:.0%}."]
    if first.actual is not None:
        reason.append(f"Feedback says “{first.actual}”.")
    if several:
        reason.append("They are nearly equal: one decision counts for all of them.")
    return Item(first.id, kind, photos, question, " ".join(reason), (), likeliest, evidence=True)
