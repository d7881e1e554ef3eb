"""Under which terms photos are, where the source or the names of the files tell their collection."""

from collections import Counter
from collections.abc import Iterable

OXFORD = "Oxford-IIIT Pet (Parkhi et al. 2012), CC BY-SA 4.0"
UNKNOWN = "not among the collections that this pipeline knows; licence not recorded"
_SOURCES = {"oxford-pets": f"{OXFORD}, by torchvision"}
_PREFIXES = {
    "kaggle": 'Kaggle "Dogs vs. Cats" (Microsoft Asirra), research licence',
    "oxford": OXFORD,
    "dogbreeds": "ImageNet, by its terms of access, for research",
    "imagenet": "ImageNet, by its terms of access, for research",
}
"""First words of file names, as in kaggle_cat_12.jpg."""


def of_source(source: str) -> str:
    """Return the terms of photos from an `ingest.source`."""
    return _SOURCES.get(source, UNKNOWN)


def collection_of(path: str) -> str:
    """Return the collection that a photo's name tells, such as `kaggle`, or an empty string."""
    first = path.rpartition("/")[2].partition("_")[0]
    return first if first in _PREFIXES else ""


def collections_of(paths: Iterable[str], source: str) -> dict[str, int]:
    """Count photos by their terms.

    Args:
        paths: class/file of each.
        source: where they came from.
    """
    known = _SOURCES.get(source)
    counts = Counter(known or _PREFIXES.get(collection_of(path), UNKNOWN) for path in paths)
    return dict(counts.most_common())
