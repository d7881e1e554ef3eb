"""Download of a large file, such as a .zip of photos: resumed, and checked against its SHA-256."""

import dataclasses
import hashlib
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from ml.model.download import Download, Policy
from ml.model.errors import PipelineError, one_line
from ml.model.http import Client, DownloadError
from ml.model.partial import Partial, sha256_of
from ml.model.urls import public

POLICY = Policy(backoff_s=1.0, total_s=24 * 3600.0)
"""Limits of a download in time. The size is limited to the free space of the disk."""


def fetch(url: str, folder: Path, sha256: str = "", name: str = "") -> Path:
    """Download a file into a folder, and resume what an earlier call left there.

    Args:
        url: http or https.
        folder: created if it is missing.
        sha256: the file's SHA-256 in hexadecimal; empty: not checked.
        name: of the file; empty: derived from the URL.

    Returns:
        The file's path. With a `sha256`, a file that is already there and has it is not downloaded again.

    Raises:
        PipelineError: the file cannot be downloaded or stored, or has another SHA-256.
    """
    shown = public(url)
    try:
        suffix = Path(urlsplit(url).path).suffix
    except ValueError as error:
        raise PipelineError(f"{one_line(shown, 100)} is not a URL: {error}") from error
    name = name or hashlib.sha256(url.encode()).hexdigest()[:16] + suffix
    target, partial = folder / name, Partial(folder / f"{name}.part")
    try:
        if sha256 and target.is_file() and sha256_of(target) == sha256.lower():
            return target
        with Client(url, token=None) as client, tqdm(bar_format="{desc}", mininterval=1) as line:

            def report(progress: str) -> None:
                line.set_description_str(progress, refresh=False)
                line.update()

            folder.mkdir(parents=True, exist_ok=True)
            present = partial.path.stat().st_size if partial.path.exists() else 0
            policy = dataclasses.replace(POLICY, max_bytes=present + shutil.disk_usage(folder).free)
            Download(client, policy, report, name="the file").run(partial)
        if sha256 and sha256_of(partial.path) != sha256.lower():
            partial.discard()
            raise PipelineError(f"{shown}: its SHA-256 is not the one in ingest.sha256")
        partial.path.replace(target)
        partial.discard()  # the note beside it
    except DownloadError as error:
        raise PipelineError(f"{shown}: {error}") from error
    except OSError as error:
        raise PipelineError(f"{shown}: cannot be stored in {folder}: {error.strerror}") from error
    return target
