"""Prepared photos that a test makes up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.data.shards import PHOTOS_PER_SHARD, ShardWriter, shard_path


def write_prepared(
    images: NDArray[np.uint8], photos: list[dict[str, Any]], classes: list[str], folder: Path
) -> None:
    """Write a data set as prepare does.

    Args:
        images: [N, size, size, 3].
        photos: their entries in splits.json, without `row`.
        classes: names of the classes.
        folder: usually data/processed.
    """
    (folder / "images-made-up").mkdir(parents=True)
    counts = []
    for first in range(0, len(images), PHOTOS_PER_SHARD):
        path = shard_path(folder / "images-made-up", len(counts))
        with ShardWriter(path, images.shape[1]) as shard:
            for image in images[first : first + PHOTOS_PER_SHARD]:
                shard.add(image)
        counts.append(shard.count)
    index = {
        "classes": classes,
        "image_size": images.shape[1],
        "resize": "center_crop",
        "images": "images-made-up",
        "shards": counts,
        "photos": [photo | {"row": row} for row, photo in enumerate(photos)],
    }
    (folder / "splits.json").write_text(json.dumps(index))
