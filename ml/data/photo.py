"""A photo on its way through `prepare`."""

import dataclasses

EVALUATED_FIRST = ("test", "val", "train")
"""The splits, those that measure a model before the one that it learns from."""


@dataclasses.dataclass(frozen=True, slots=True)
class Photo:
    """A decoded photo, or one that was dropped.

    Attributes:
        path: class/file.
        row: where its pixels are, see `ml.data.shards`; -1: nowhere.
        sha256: of the file.
        split: where it belongs; empty: not decided yet, or the file cannot be read.
        pixels_sha256: of the pixels.
        code: its difference hash, see `ml.data.duplicates`; empty: it has too little content for one.
        size: width and height of the whole upright photo, in pixels.
        reason: why it was dropped, one word; empty: it was not.
        detail: explains the reason.
        other: path of the photo that it equals, if that is the reason.
        relabelled: the right class, if the folder is not; see `ml.data.decisions`.
    """

    path: str
    row: int = -1
    sha256: str = ""
    split: str = ""
    pixels_sha256: str = ""
    code: bytes = b""
    size: tuple[int, int] = (0, 0)
    reason: str = ""
    detail: str = ""
    other: str = ""
    relabelled: str = ""

    @property
    def label(self) -> str:
        """The class: the name of the folder, unless a person decided otherwise."""
        return self.relabelled or self.path.split("/", 1)[0]

    def drop(self, reason: str, detail: str, other: str = "") -> "Photo":
        """Return the photo with a reason to drop it."""
        return dataclasses.replace(self, reason=reason, detail=detail, other=other)
