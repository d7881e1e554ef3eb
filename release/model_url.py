"""Print MODEL_URL and MODEL_SHA256 of the model in a release, in the format of $GITHUB_OUTPUT.

The URL contains the release's tag: a deployment gets the model that was tested, and a rollback the old one.
For a private repository it is the API's URL, because browsers' URLs accept no token; the service then needs
MODEL_TOKEN. If there is no release yet, or the latest one has no model, standard output stays empty.

Environment: GITHUB_REPOSITORY; optional: GITHUB_TOKEN, GITHUB_API_URL.
"""

import argparse
import re
import tempfile
from pathlib import Path

from github.GitRelease import GitRelease

from ml.cli import note, say
from ml.model.errors import PipelineError
from release.github import MODEL, GitHub, complete, sha256
from release.transport import GitHubError

EXAMPLE = "python -m release model-url v1.2.3"

_CHECKSUM = f"{MODEL}.sha256"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the argument."""
    parser.add_argument("tag", nargs="?", help="tag of the release; default: the latest release")


def main(arguments: argparse.Namespace) -> None:
    """Print the two lines."""
    github, tag = GitHub.from_environment(), arguments.tag
    release = github.by_tag(tag) if tag else github.latest()
    model = model_of(github, release) if release else None
    if release is not None and model is not None:
        say(f"MODEL_URL={model[0]}\nMODEL_SHA256={model[1]}")
    elif tag:
        missing = f"the release has no {MODEL}" if release else "there is no such published release"
        raise PipelineError(f"{tag}: {missing}")
    else:
        note(f"release {release.tag_name} has no {MODEL}" if release else f"{github.name} has no release yet")


def model_of(github: GitHub, release: GitRelease) -> tuple[str, str] | None:
    """Return URL and SHA-256 of a release's model, or None if it has none.

    Raises:
        GitHubError: there is no valid URL or digest.
    """
    assets = {asset.name: asset for asset in github.assets(release) if complete(asset)}
    if (model := assets.get(MODEL)) is None:
        return None
    digest, checksum = sha256(model), assets.get(_CHECKSUM)
    if not digest and checksum is not None and checksum.size < 1000:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "checksum")
            github.download(checksum, path)
            digest = path.read_text("ascii", "replace").partition(" ")[0].lower()
    url = model.url if github.private() else model.browser_download_url
    if not re.fullmatch("[0-9a-f]{64}", digest) or not re.fullmatch(r"https?://[!-~]{1,2000}", url):
        raise GitHubError(f"release {release.tag_name}: {MODEL} has no valid URL or SHA-256")
    return url, digest
