"""Releases of one GitHub repository, by PyGithub (https://docs.github.com/rest/releases)."""

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

from github.GithubException import BadAttributeException, GithubException
from github.GitRelease import GitRelease
from github.GitReleaseAsset import GitReleaseAsset
from github.Repository import Repository

from ml.cli import note
from ml.model import download, http
from ml.model.partial import Partial, sha256_of
from release.transport import GitHubError, NotFoundError, Patience, Transport, site

API = "https://api.github.com"
MODEL = "model.pt"
"""Name of the model in a release."""

_MAX_ENTRIES = 10_000
_FIELDS = {
    GitRelease: ("id", "tag_name", "draft", "prerelease", "url", "upload_url"),
    GitReleaseAsset: ("id", "name", "state", "size", "url", "browser_download_url"),
}
_PARSING = (
    AssertionError, AttributeError, BadAttributeException, GithubException, LookupError, TypeError,
    ValueError,
)  # fmt: skip

Entry = TypeVar("Entry", GitRelease, GitReleaseAsset)


@contextlib.contextmanager
def documented() -> Iterator[None]:
    """Turn PyGithub's errors about responses that it can't use into a GitHubError.

    `GitHub`'s methods do it themselves; around other uses of its `repository`, it is the caller's.
    """
    try:
        yield
    except _PARSING as error:
        reason = type(error).__name__
        raise GitHubError(f"the API's response is not what GitHub documents ({reason})") from None


class GitHub:
    """Releases of one repository, as one token sees them. Every method raises GitHubError."""

    def __init__(
        self,
        repository: str,
        token: str = "",
        api: str = API,
        patience: Patience | None = None,
        report: Callable[[str], None] = note,
    ) -> None:
        """Check the arguments; nothing is sent yet.

        Args:
            repository: owner/name.
            token: empty for what everybody may see.
            api: URL of the API.
            patience: how long to wait for a server that fails or limits the rate.
            report: called with one line before each pause.
        """
        self._transport = Transport(repository, token, api, patience or Patience(), report)
        self.name, self.page, self.has_token = repository, f"{site(api)}/{repository}", bool(token)
        self.back_off = self._transport.back_off
        self.repository = Repository(self._transport.requester(), url=f"/repos/{repository}")

    @classmethod
    def from_environment(cls, write: bool = False) -> Self:
        """Return the client for GITHUB_REPOSITORY, GITHUB_TOKEN and GITHUB_API_URL, which Actions sets.

        Args:
            write: whether a token is required.
        """
        repository, token = (os.environ.get(f"GITHUB_{name}", "").strip() for name in ("REPOSITORY", "TOKEN"))
        if not repository:
            raise GitHubError("GITHUB_REPOSITORY is not set: set it to owner/name of the repository")
        if write and not token:
            raise GitHubError("GITHUB_TOKEN is not set: set it to a token that has contents: write")
        return cls(repository, token, os.environ.get("GITHUB_API_URL") or API)

    @documented()
    def private(self) -> bool:
        """Return whether the repository is visible only with a token."""
        return self.repository.private is True

    def releases(self) -> list[GitRelease]:
        """Return all releases, newest first; drafts only if the token has the right to push."""
        return _checked(self.repository.get_releases())

    def drafts(self, tag: str) -> list[GitRelease]:
        """Return all drafts of a tag, oldest first."""
        drafts = (release for release in self.releases() if release.draft and release.tag_name == tag)
        return sorted(drafts, key=lambda release: release.id)

    def latest(self) -> GitRelease | None:
        """Return the latest release, which is neither draft nor prerelease; None if there is none."""
        return self._published(self.repository.get_latest_release)

    def latest_model(self) -> tuple[GitRelease, GitReleaseAsset] | None:
        """Return the latest release that has a model, and the model; None if no release has one.

        It is an earlier one than `latest` if somebody has published a release without a model since.
        """
        for release in self._from_latest():
            if (model := self.model(release)) is not None:
                return release, model
        return None

    def _from_latest(self) -> Iterator[GitRelease]:
        if (latest := self.latest()) is not None:
            yield latest
            yield from (r for r in self.releases() if not (r.draft or r.prerelease or r.id == latest.id))

    def by_tag(self, tag: str) -> GitRelease | None:
        """Return the published release of a tag, or None."""
        return self._published(lambda: self.repository.get_release(check_tag(tag)))

    @documented()
    def commit_of(self, tag: str) -> str:
        """Return the SHA of the commit of a tag; empty: there is no such tag."""
        path = f"/commits/tags%2F{check_tag(tag)}"  # PyGithub's get_commit sends nothing
        try:
            _, commit = self.repository.requester.requestJsonAndCheck("GET", self.repository.url + path)
        except NotFoundError:
            return ""
        if not re.fullmatch("[0-9a-f]{40}", str(commit["sha"])):
            raise GitHubError("the API's response has no valid sha")
        return str(commit["sha"])

    def release(self, number: int) -> GitRelease:
        """Return a release by its id."""
        return _checked([self.repository.get_release(number)])[0]

    @documented()
    def create_draft(self, tag: str, target: str, body: str, prerelease: bool) -> GitRelease:
        """Create a draft.

        Args:
            tag: GitHub creates it when the draft is published, unless it exists.
            target: commit or branch for the tag; empty: the default branch.
            body: Markdown.
            prerelease: whether the release must never become the latest.

        Raises:
            UnsureError: the draft may exist or not; look for it with `drafts`.
        """
        options: Any = {"prerelease": prerelease} | ({"target_commitish": target} if target else {})
        draft = self.repository.create_git_release(
            check_tag(tag), tag, body, draft=True, make_latest="false", **options
        )
        return _checked([draft])[0]

    @documented()
    def publish(
        self, draft: GitRelease, target: str, body: str, prerelease: bool, latest: bool
    ) -> GitRelease:
        """Publish a draft, as the latest release or not; see `create_draft` for the other arguments.

        All fields are sent, because GitHub or PyGithub would reset some that are missing.
        """
        options: Any = {"make_latest": "true" if latest else "false"}
        options |= {"tag_name": draft.tag_name, "prerelease": prerelease}
        options |= {"target_commitish": target} if target else {}
        return _checked([draft.update_release(draft.name or "", body, draft=False, **options)])[0]

    @documented()
    def delete(self, entry: GitRelease | GitReleaseAsset) -> None:
        """Delete a release or an asset, unless it is gone already.

        Raises:
            UnsureError: it may have been deleted or not.
        """
        with contextlib.suppress(NotFoundError):
            entry.delete_release() if isinstance(entry, GitRelease) else entry.delete_asset()

    def assets(self, release: GitRelease) -> list[GitReleaseAsset]:
        """Return all assets, including the incomplete ones that a release itself doesn't list."""
        return _checked(release.get_assets())

    def model(self, release: GitRelease) -> GitReleaseAsset | None:
        """Return the model of a release; None if it has none, or an incomplete one."""
        return next((a for a in self.assets(release) if a.name == MODEL and complete(a)), None)

    @documented()
    def upload(self, release: GitRelease, name: str, size: int, file: Any) -> GitReleaseAsset:
        """Upload one asset of `size` bytes, which are streamed from `file.read`.

        Raises:
            UnsureError: the asset may be complete, incomplete or missing; look with `assets`.
            ExistsError: another asset with this name exists, perhaps incomplete.
        """
        kind = "application/octet-stream"
        return _checked([release.upload_asset_from_memory(file, size, name, kind)])[0]

    def download(self, asset: GitReleaseAsset, path: Path) -> None:
        """Write an asset to a file, and check its SHA-256.

        Each attempt asks the API for a new signed URL and continues where the last one stopped. The token
        is not sent to the storage server.
        """
        self._transport.check_origin(asset.url)
        patience = self._transport.patience
        policy = download.Policy(
            patience.attempts, patience.pause_s, total_s=patience.total_s, max_bytes=asset.size,
            timeouts=http.Timeouts(patience.connect_s, patience.response_s, patience.response_s),
        )  # fmt: skip
        try:
            with http.Client(asset.url, self._transport.token or None) as client:
                download.Download(client, policy, lambda _: None).run(Partial(path))
        except http.DownloadError as error:
            raise GitHubError(f"{asset.name} can't be downloaded: {error}") from None
        if (digest := sha256_of(path)) != sha256(asset):
            raise GitHubError(f"{asset.name} has the SHA-256 {digest}, but the API says {sha256(asset)}")

    def _published(self, get: Callable[[], GitRelease]) -> GitRelease | None:
        try:
            with documented():
                return _checked([get()])[0]
        except NotFoundError:
            _checked(islice(self.repository.get_releases(), 1))  # 404 too if the repository is not visible
            return None


@documented()
def sha256(asset: GitReleaseAsset) -> str:
    """Return the SHA-256 that the API states, in hexadecimal.

    Raises:
        GitHubError: it states none.
    """
    match = re.fullmatch("sha256:([0-9a-f]{64})", asset.digest or "")
    if match is None:
        raise GitHubError(f"the API states no SHA-256 of {asset.name}")
    return match[1]


def complete(asset: GitReleaseAsset) -> bool:
    """Return whether the whole asset has arrived; after an interrupted upload its state is `starter`."""
    return asset.state == "uploaded"


def check_tag(tag: str) -> str:
    """Return the tag if git, URLs and shells take it without quoting.

    Raises:
        GitHubError: they don't.
    """
    plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", tag)
    if not plain or ".." in tag or tag.endswith((".", ".lock")):
        raise GitHubError(f"{tag!r:.80} is not a valid tag: use letters, digits and . _ + - as in v1.2.3")
    return tag


def _checked(entries: Iterable[Entry]) -> list[Entry]:
    """Return releases or assets, after a check that they have the fields that are used here."""
    with documented():
        listed = list(islice(entries, _MAX_ENTRIES))
        for entry in listed:
            for name in _FIELDS[type(entry)]:
                if getattr(entry, name) is None:
                    raise GitHubError(f"the API's response has no valid {name}")
    return listed
