"""Prepared photos in an object store: each process fetches the photos that it uses, one request per photo.

fsspec reaches the store. The URL says which one: s3:// (the training environment contains s3fs), gs:// (with
gcsfs), az:// (with adlfs) and so on. Credentials and endpoints come from the store's usual environment
variables and files.
"""

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.data.shards import HEADER_BYTES, PHOTOS_PER_SHARD, Shards, shard_path
from ml.model.errors import PipelineError, one_line

CACHE = Path("data/fetched")
"""Photos that were fetched, one file each; the processes of a machine share them."""

_DEFAULT_CACHE_GB = 10.0


def is_url(place: Path | str) -> bool:
    """Tell the URL of an object store from a folder."""
    return "://" in str(place)


@contextlib.contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Turn the errors of a store, each of which has its own, into a PipelineError."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        reason = one_line(str(error), 300) or type(error).__name__
        raise PipelineError(f"{url} cannot be used: {reason}") from error


def read_object(url: str) -> bytes:
    """Return the content of a file in an object store.

    Raises:
        PipelineError: the store cannot be used, or there is no such file.
    """
    import fsspec  # half a second, and only object stores need it

    with store_errors(url):
        files, path = fsspec.core.url_to_fs(url)
        return bytes(files.cat_file(path))


def file_sizes(url: str) -> dict[str, int]:
    """Return the size of each file in a folder of an object store, by name; there may be none.

    Raises:
        PipelineError: the store cannot be used.
    """
    import fsspec

    with store_errors(url):
        files, path = fsspec.core.url_to_fs(url)
        files.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            return {Path(entry["name"]).name: entry["size"] for entry in files.ls(path, detail=True)}
    return {}


class RemoteShards(Shards):
    """The photos in a folder of shards in an object store, which are fetched when they are indexed.

    The first photos are kept in `CACHE`, as many as fit into its limit. None makes room for another: every
    epoch uses each photo once, in another order, so a photo that was used long ago is as likely to be next.
    """

    def __init__(self, url: str, rows: NDArray[np.int64], size: int) -> None:
        """Describe photos in a folder of shards; see `Shards`.

        Raises:
            PipelineError: the URL is not that of prepared photos, or PREPARED_CACHE_GB is not a number.
        """
        name = url.rsplit("/", 1)[-1]
        if not re.fullmatch(r"images-[\w-]+", name):  # a folder of that name is made here
            raise PipelineError(f"{url} is no folder of prepared photos: run `python -m ml share` again")
        super().__init__(CACHE / name, rows, size)
        self._url = url
        self._cached_rows = int(_cache_gb() * 1e9) // int(np.prod(self.shape[1:]))
        for old in CACHE.glob("*"):
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)

    def check(self, counts: Sequence[int]) -> None:
        """Check that there are shards with these numbers of photos; see `Shards`."""
        self._check(counts, file_sizes(self._url))

    def __getitem__(self, key: int | slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Fetch one photo [size, size, 3], or some [M, size, size, 3] in the order of `key`, all at once.

        Raises:
            PipelineError: the store cannot be used, or a shard is no longer there.
        """
        rows = self._rows[key]
        images = np.empty((*rows.shape, *self.shape[1:]), np.uint8)
        flat = images.reshape(-1, int(np.prod(self.shape[1:])))
        wanted = zip(np.ravel(rows).tolist(), flat, strict=True)
        self._fetch([(row, image) for row, image in wanted if not self._read_cached(row, image)])
        return images

    def _fetch(self, wanted: list[tuple[int, NDArray[np.uint8]]]) -> None:
        if not wanted:
            return
        import fsspec

        with store_errors(self._url):
            files, path = fsspec.core.url_to_fs(self._url)
            shards, places = np.divmod([row for row, _ in wanted], PHOTOS_PER_SHARD)
            photo_bytes = wanted[0][1].nbytes
            first = (HEADER_BYTES + places * photo_bytes).tolist()
            fetched = files.cat_ranges(
                [f"{path}/{shard_path(Path(), number).name}" for number in shards.tolist()],
                first,
                [start + photo_bytes for start in first],
                on_error="raise",
            )
        for (row, image), content in zip(wanted, fetched, strict=True):
            if len(content) != photo_bytes:
                raise PipelineError(f"{self._url} has a shard that is too short: copy the photos there again")
            image[:] = np.frombuffer(content, np.uint8)
            self._keep(row, content)

    def _read_cached(self, row: int, image: NDArray[np.uint8]) -> bool:
        if row >= self._cached_rows:
            return False
        try:
            with self._cache_path(row).open("rb", buffering=0) as file:
                return file.readinto(image.data) == image.nbytes
        except OSError:
            return False

    def _keep(self, row: int, content: bytes) -> None:
        """Write a photo to the cache, which training doesn't need: if that fails, it is fetched again."""
        if row >= self._cached_rows:
            return
        path = self._cache_path(row)
        unfinished = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(content)
            unfinished.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)

    def _cache_path(self, row: int) -> Path:
        number, place = divmod(row, PHOTOS_PER_SHARD)
        return self.folder / f"{number:05d}" / f"{place:02d}"


def _cache_gb() -> float:
    text = os.environ.get("PREPARED_CACHE_GB", "")
    try:
        limit = float(text or _DEFAULT_CACHE_GB)
        if not 0 <= limit < float("inf"):
            raise ValueError
    except ValueError as error:
        raise PipelineError(
            f"PREPARED_CACHE_GB={text}: expected the gigabytes of photos to keep on this machine, 0 for none"
        ) from error
    return limit
