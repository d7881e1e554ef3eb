"""Copy the prepared photos to an object store, or to a folder that several machines share.

Files that are there already are not sent again, so an interrupted copy can be continued. The list of the
photos is copied last: until then, training uses the photos that were there before. Shards of earlier photos
stay.
"""

import argparse
import shlex
from pathlib import Path

from tqdm import tqdm

from ml.cli import say
from ml.data.dataset import FOLDER, SPLITS, Dataset
from ml.data.remote import file_sizes, is_url, store_errors
from ml.data.shards import Shards
from ml.model.errors import PipelineError
from ml.model.files import replaced

EXAMPLE = "python -m ml share s3://my-bucket/photos"
_AT_ONCE = 64  # files, so that an interruption loses little


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("url", help="s3://bucket/folder, gs://bucket/folder, or a folder")


def main(arguments: argparse.Namespace) -> None:
    """Copy, and say how the photos are used."""
    if not (url := arguments.url.rstrip("/")) or url.endswith(":"):
        raise PipelineError("the address is empty, or names no bucket")
    sent = run(url)
    say(f"{arguments.url}: {sent:,} files copied. To train with these photos on any machine:")
    say(f"  export PREPARED_URL={shlex.quote(arguments.url)}")


def run(url: str, folder: Path = FOLDER) -> int:
    """Copy the data set in `folder` to a URL, and return how many shards were not there before.

    Raises:
        PipelineError: there are no prepared photos, or the store cannot be used.
    """
    import fsspec

    images = Dataset.load(folder).images
    assert isinstance(images, Shards)
    name = images.folder.name
    there = file_sizes(f"{url}/{name}")
    missing = [
        path for path in sorted(images.folder.iterdir()) if there.get(path.name) != path.stat().st_size
    ]
    with store_errors(url), tqdm(desc="copy", total=len(missing)) as progress:
        files, target = fsspec.core.url_to_fs(url)
        files.makedirs(f"{target}/{name}", exist_ok=True)
        for first in range(0, len(missing), _AT_ONCE):
            part = missing[first : first + _AT_ONCE]
            files.put([str(path) for path in part], [f"{target}/{name}/{path.name}" for path in part])
            progress.update(len(part))
        if is_url(url):  # an object appears when its upload is complete
            files.put_file(str(folder / SPLITS), f"{target}/{SPLITS}")
        else:
            with replaced(Path(url) / SPLITS) as file:
                file.write((folder / SPLITS).read_bytes())
    if Dataset.load(url).hashes != Dataset.load(folder).hashes:
        raise PipelineError(f"{url} was changed by another process while this one copied: copy again")
    return len(missing)
