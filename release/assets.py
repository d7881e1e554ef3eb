"""Upload of files to a draft: correct assets are kept, incomplete and different ones are replaced."""

import time
from collections.abc import Sequence

from github.GitRelease import GitRelease
from github.GitReleaseAsset import GitReleaseAsset
from tqdm import tqdm

from ml.cli import say
from ml.model.errors import PipelineError
from release.files import File
from release.github import GitHub, complete
from release.transport import ExistsError, GitHubError, NotFoundError, UnavailableError, UnsureError

_ROUNDS = 6
_OTHER_UPLOAD_S = 30.0
"""How long to wait for another publisher's upload of the same file."""


class Upload:
    """Files to be uploaded to a draft."""

    def __init__(self, github: GitHub, files: Sequence[File]) -> None:
        self._github, self._files = github, files
        self._digests: dict[int, str] = {}

    def matches(self, asset: GitReleaseAsset, file: File) -> bool:
        """Return whether an asset is complete and equal to the file."""
        if not complete(asset) or asset.size != file.size:
            return False
        if asset.id not in self._digests:  # a complete asset never changes
            self._digests[asset.id] = self._github.digest(asset)
        return self._digests[asset.id] == file.sha256

    def run(self, draft: GitRelease) -> None:
        """Upload what is missing, and return when the server confirms size and digest of every file.

        Raises:
            NotFoundError: the draft has been deleted or published.
            GitHubError: the upload fails.
        """
        contested: set[str] = set()
        problem = ""
        for attempt in range(_ROUNDS):
            present = self._settled(draft, contested)
            wrong = [f for f in self._files if f.name not in present or not self.matches(present[f.name], f)]
            if not wrong:
                return
            if attempt:
                names = ", ".join(file.name for file in wrong)
                self._github.back_off(attempt - 1, f"not uploaded yet: {names} {problem}")
            contested = set()
            # Incomplete assets last: if another publisher is uploading them, that may have ended by then.
            for file in sorted(wrong, key=lambda f: f.name in present):
                try:
                    if file.name not in present or self._deleted(draft, present[file.name], file):
                        self._upload(draft, file)
                except ExistsError:
                    contested.add(file.name)
                except (UnsureError, NotFoundError) as error:  # the next round looks what has arrived
                    self._check_draft(draft)
                    problem = f"({error})"
        raise UnavailableError(f"draft {draft.id} is not complete after {_ROUNDS} rounds {problem}")

    def _settled(self, draft: GitRelease, contested: set[str]) -> dict[str, GitReleaseAsset]:
        """Return the assets by name, once other publishers' uploads have ended or take too long."""
        deadline = time.monotonic() + _OTHER_UPLOAD_S
        while True:
            present = {asset.name: asset for asset in self._github.assets(draft)}
            uploading = [name for name in contested if name in present and not complete(present[name])]
            if not uploading or time.monotonic() > deadline:
                return present
            self._github.back_off(0, f"another publisher is uploading {', '.join(uploading)}")

    def _check_draft(self, draft: GitRelease) -> None:
        if not self._github.release(draft.id).draft:
            raise NotFoundError(f"draft {draft.id} has been published in the meantime")

    def _deleted(self, draft: GitRelease, asset: GitReleaseAsset, file: File) -> bool:
        """Delete a wrong asset; return False if it has become correct since it was listed.

        GitHub has no conditional delete. Between the two requests, only another publisher of the same files
        could publish the draft, and only if its upload of this file ended at that moment.
        """
        present = self._github.asset(asset)
        if present is not None:
            if self.matches(present, file):
                return False
            self._check_draft(draft)
            self._github.delete(present)
            say(f"deleted   {asset.name}, which was {'different' if complete(present) else 'incomplete'}")
        return True

    def _upload(self, draft: GitRelease, file: File) -> None:
        started = time.monotonic()
        try:
            opened = file.path.open("rb")
        except OSError as error:
            raise PipelineError(f"{file.path} can't be read any more: {error.strerror}") from error
        with (
            opened as source,
            tqdm.wrapattr(source, "read", total=file.size, desc=file.name, leave=False, disable=None) as body,
        ):  # disable=None: no progress bar in logs
            asset = self._github.upload(draft, file.name, file.size, body)
        if asset.name != file.name:
            self._github.delete(asset)
            raise GitHubError(f"GitHub renamed {file.name} to {asset.name}")
        say(f"uploaded  {file.name} ({file.size:,} bytes, {time.monotonic() - started:.1f} s)")
