"""Licences of photos, if their source or their file names show which collection they belong to."""

from collections import Counter
from collections.abc import Iterable

from ml.data.collected import period_of

OXFORD = "Oxford-IIIT Pet (Parkhi et al. 2012), CC BY-SA 4.0"
UNKNOWN = "not a collection that this pipeline knows; licence not recorded"
_SOURCES = {"oxford-pets": f"{OXFORD}, by torchvision"}
_PREFIXES = {
    "kaggle": 'Kaggle "Dogs vs. Cats" (Microsoft Asirra), research licence',
    "oxford": OXFORD,
    "dogbreeds": "ImageNet, under its terms of access, for research",
    "imagenet": "ImageNet, under its terms of access, for research",
    "collected": "collected from the service, under its privacy notice",
}
"""By the first part of file names such as kaggle_cat_12.jpg."""


def of_source(source: str) -> str:
    """Return the licence of photos from an `ingest.source`."""
    return _SOURCES.get(source, UNKNOWN)


def collection_of(path: str) -> str:
    """Return the collection according to a photo's name, such as `kaggle`, or an empty string."""
    first = path.rpartition("/")[2].partition("_")[0]
    if first == "collected" and not period_of(path):
        return ""
    return first if first in _PREFIXES else ""


def collections_of(paths: Iterable[str], source: str) -> dict[str, int]:
    """Count photos by licence.

    Args:
        paths: class/file of each photo.
        source: the `ingest.source` they came from.
    """
    of_all = _SOURCES.get(source)

    def licence(path: str) -> str:
        collection = collection_of(path)
        return of_all if of_all and collection != "collected" else _PREFIXES.get(collection, UNKNOWN)

    return dict(Counter(map(licence, paths)).most_common())
