"""Releases of a GitHub repository, and which model the latest one holds.

`python -m ml.releases [TAG]` prints `MODEL_URL=…` and `MODEL_SHA256=…`, fit for $GITHUB_OUTPUT. The URL is
that of the tag: a deployment gets what was tested, and one that goes back gets the old model again. Of a
private repository it is the API's, since a browser's takes no token; the service needs `MODEL_TOKEN` then.
"""

import argparse
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ml.cli import exit_cleanly, note, say
from ml.errors import PipelineError
from ml.github.answers import GitHubError, NotFoundError
from ml.github.client import GitHub
from ml.github.download import download
from ml.github.release import Asset, Release, check_tag

if TYPE_CHECKING:
    from _typeshed import SupportsRead

MODEL = "model.pt"
SUM = "model.pt.sha256"
_URL = re.compile(r"https?://[!-~]{1,2000}")


class Releases:
    """The releases of one repository. All methods raise GitHubError, see `ml.github.client.GitHub.call`."""

    def __init__(self, github: GitHub) -> None:
        self.github = github

    def private(self) -> bool:
        """Return whether only those with a token may see the repository."""
        return self.github.call("GET", "").get("private") is True

    def latest(self) -> Release | None:
        """Return the latest release, neither draft nor prerelease; None where there is none yet."""
        return self._find("releases/latest")

    def by_tag(self, tag: str) -> Release | None:
        """Return the published release of a tag, or None. Drafts are not found so."""
        return self._find(f"releases/tags/{quote(check_tag(tag), safe='')}")

    def drafts(self, tag: str) -> list[Release]:
        """Return all drafts of a tag, oldest first; a token without the right to push sees none."""
        found = (Release.read(entry) for entry in self.github.pages("releases"))
        return sorted((r for r in found if r.draft and r.tag == tag), key=lambda release: release.id)

    def get(self, number: int) -> Release:
        """Return a release by its id."""
        return Release.read(self.github.call("GET", f"releases/{number}"))

    def create_draft(self, tag: str, target: str, body: str, prerelease: bool) -> Release:
        """Make a draft.

        Args:
            tag: made by GitHub when the draft is published, if it isn't there.
            target: commit for that; empty: the default branch's.
            body: Markdown.
            prerelease: never to be the latest.

        Raises:
            UnsureError: it may have been made or not; `drafts` tells.
        """
        asked = {
            "tag_name": check_tag(tag),
            "name": tag,
            "body": body,
            "draft": True,
            "prerelease": prerelease,
        }
        asked |= {"target_commitish": target} if target else {}
        return Release.read(self.github.call("POST", "releases", asked, again=False))

    def update(self, release: Release, **changes: object) -> Release:
        """Change a release, such as `draft=False, make_latest="true"`; its tag stays.

        GitHub takes the tag off a draft that is changed by a request without it.
        """
        asked = {"tag_name": release.tag} | changes
        return Release.read(self.github.call("PATCH", f"releases/{release.id}", asked))

    def delete(self, release: Release) -> None:
        """Delete a release; it may be gone already."""
        self._delete(f"releases/{release.id}", again=True)

    def assets(self, release: Release) -> list[Asset]:
        """Return all assets, half-uploaded ones too, which a release itself doesn't list."""
        return [Asset.read(entry) for entry in self.github.pages(f"releases/{release.id}/assets")]

    def asset(self, asset: Asset) -> Asset | None:
        """Return an asset as it is now, None where it is gone."""
        try:
            return Asset.read(self.github.call("GET", f"releases/assets/{asset.id}"))
        except NotFoundError:
            return None

    def upload(self, release: Release, name: str, size: int, file: "SupportsRead[bytes]") -> Asset:
        """Upload one asset, piece by piece from the file.

        Raises:
            UnsureError: it may be there, whole or in part; `assets` tells.
            ExistsError: another one of that name is there, whole or in part.
        """
        url = f"{release.upload_url.partition('{')[0]}?name={quote(name, safe='')}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self.github.send("POST", url, again=False, data=file, headers=headers) as response:
            try:
                return Asset.read(response.json())
            except (ValueError, AttributeError):
                raise GitHubError("the answer to an upload is no asset") from None

    def delete_asset(self, asset: Asset) -> None:
        """Delete an asset; it may be gone already.

        Raises:
            UnsureError: it may have been deleted or not; not repeated, as meanwhile more may have changed.
        """
        self._delete(f"releases/assets/{asset.id}", again=False)

    def download(self, asset: Asset, path: Path) -> None:
        """Write an asset to a file, checked against its size and digest."""
        download(self.github, asset.url, path, asset.size, asset.sha256)

    def sha256_of(self, asset: Asset) -> str:
        """Return an asset's digest; a server that doesn't say it has the asset downloaded."""
        if asset.sha256:
            return asset.sha256
        with tempfile.TemporaryDirectory() as folder:
            return download(self.github, asset.url, Path(folder, "asset"), asset.size)

    def _find(self, path: str) -> Release | None:
        try:
            return Release.read(self.github.call("GET", path))
        except NotFoundError:
            for _ in self.github.pages("releases"):  # 404 too where the repository isn't to be seen
                break
            return None

    def _delete(self, path: str, again: bool) -> None:
        try:
            self.github.call("DELETE", path, again=again)
        except NotFoundError:
            return


def model_of(releases: Releases, release: Release) -> tuple[str, str] | None:
    """Return URL and SHA-256 of a release's `model.pt`, or None where it has none.

    The URL is a browser's, or the API's where the repository is private.

    Raises:
        GitHubError: its digest can't be had, or the URL is no URL.
    """
    assets: dict[str, Asset] = {asset.name: asset for asset in releases.assets(release) if asset.whole}
    if (model := assets.get(MODEL)) is None:
        return None
    sha256 = model.sha256 or (_published_sum(releases, assets[SUM]) if SUM in assets else "")
    if not re.fullmatch("[0-9a-f]{64}", sha256) or not _URL.fullmatch(model.browser_url):
        raise GitHubError(f"release {release.tag}: neither the API nor {SUM} says the SHA-256 of {MODEL}")
    return (model.url if releases.private() else model.browser_url), sha256


def _published_sum(releases: Releases, asset: Asset) -> str:
    if asset.size > 1000:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sum")
        releases.download(asset, path)
        return path.read_text("ascii", "replace").partition(" ")[0].lower()


def main() -> None:
    """Print where the model of a release is, or nothing where there is none yet."""
    parser = argparse.ArgumentParser(prog="ml.releases", description=main.__doc__)
    parser.add_argument("tag", nargs="?", help="of the release; default: the latest one")
    tag = parser.parse_args().tag
    releases = Releases(GitHub.from_environment())
    release = releases.by_tag(tag) if tag else releases.latest()
    model = model_of(releases, release) if release else None
    if release is None or model is None:
        missing = f"release {release.tag} has no {MODEL}" if release else "there is no such release"
        if tag:
            raise PipelineError(f"{tag}: {missing}")
        note(missing if release else f"{releases.github.repository} has no release yet")
        return
    say(f"MODEL_URL={model[0]}\nMODEL_SHA256={model[1]}")


if __name__ == "__main__":
    with exit_cleanly():
        main()
