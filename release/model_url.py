"""Print MODEL_URL and MODEL_SHA256 of the model in a release, in the format of $GITHUB_OUTPUT.

The URL contains the release's tag: a deployment gets the model that was tested, and a rollback the old one.
For a private repository it is the API's URL, because browsers' URLs accept no token; the service then needs
MODEL_TOKEN. Releases without a model are passed over; if no release has one, standard output stays empty.

Environment: GITHUB_REPOSITORY; optional: GITHUB_TOKEN, GITHUB_API_URL.
"""

import argparse
import re

from github.GitReleaseAsset import GitReleaseAsset

from ml.cli import note, say
from ml.model.errors import PipelineError
from release.github import MODEL, GitHub, sha256
from release.transport import GitHubError

EXAMPLE = "python -m release model-url v1.2.3"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the argument."""
    parser.add_argument("tag", nargs="?", help="tag of the release; default: the latest release")


def main(arguments: argparse.Namespace) -> None:
    """Print the two lines."""
    github, tag = GitHub.from_environment(), arguments.tag
    if not tag:
        if found := github.latest_model():
            say(variables(github, found[1]))
        else:
            note(f"{github.name} has no release with a {MODEL} yet")
        return
    if (release := github.by_tag(tag)) is None:
        raise PipelineError(f"{tag}: there is no such published release")
    if (model := github.model(release)) is None:
        raise PipelineError(f"{tag}: the release has no {MODEL}")
    say(variables(github, model))


def variables(github: GitHub, model: GitReleaseAsset) -> str:
    """Return MODEL_URL and MODEL_SHA256 of a model, one per line.

    Raises:
        GitHubError: there is no valid URL or digest.
    """
    url = model.url if github.private() else model.browser_download_url
    if not re.fullmatch(r"https?://[!-~]{1,2000}", url):
        raise GitHubError(f"the API states no valid URL of {MODEL}")
    return f"MODEL_URL={url}\nMODEL_SHA256={sha256(model)}"
