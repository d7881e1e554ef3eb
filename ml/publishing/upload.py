"""Files into the draft of a release: what is right is left, what is half there or different is replaced."""

import time
from collections.abc import Sequence

from tqdm import tqdm

from ml.cli import say
from ml.errors import PipelineError
from ml.github.answers import ExistsError, GitHubError, NotFoundError, UnreachableError, UnsureError
from ml.github.release import Asset, Release
from ml.publishing.files import File
from ml.releases import Releases

_ROUNDS = 6
_OTHER_S = 30.0
"""For an upload of another publisher, which is on its way."""


class Upload:
    """Files on their way into a draft."""

    def __init__(self, releases: Releases, files: Sequence[File]) -> None:
        self._releases, self._files = releases, files
        self._digests: dict[int, str] = {}

    def right(self, asset: Asset, file: File) -> bool:
        """Whether an asset is the file, whole."""
        if not asset.whole or asset.size != file.size:
            return False
        if asset.id not in self._digests:  # of a whole one it never changes
            self._digests[asset.id] = self._releases.sha256_of(asset)
        return self._digests[asset.id] == file.sha256

    def run(self, draft: Release) -> None:
        """Upload what is missing, and return when the server says of every file that it is there and right.

        Raises:
            NotFoundError: the draft is gone, or published.
            GitHubError: it can't be done.
        """
        contested: set[str] = set()
        problem = ""
        for number in range(_ROUNDS):
            there = self._settled(draft, contested)
            wrong = [f for f in self._files if f.name not in there or not self.right(there[f.name], f)]
            if not wrong:
                return
            if number:
                names = ", ".join(file.name for file in wrong)
                self._releases.github.back_off(number - 1, f"not there yet: {names} {problem}")
            contested = set()
            # What is half there last: if another publisher is uploading it, this may have ended by then.
            for file in sorted(wrong, key=lambda f: f.name in there):
                try:
                    if file.name not in there or self._removed(draft, there[file.name], file):
                        self._put(draft, file)
                except ExistsError:
                    contested.add(file.name)
                except (UnsureError, NotFoundError) as error:  # the next round looks what is there
                    self._check(draft)
                    problem = f"({error})"
        raise UnreachableError(f"draft {draft.id} doesn't get complete in {_ROUNDS} rounds {problem}")

    def _settled(self, draft: Release, contested: set[str]) -> dict[str, Asset]:
        """Return what is there, after another publisher's uploads have come to an end, or take too long."""
        until = time.monotonic() + _OTHER_S
        while True:
            there = {asset.name: asset for asset in self._releases.assets(draft)}
            going_on = [name for name in contested if name in there and not there[name].whole]
            if not going_on or time.monotonic() > until:
                return there
            self._releases.github.back_off(0, f"another publisher uploads {', '.join(going_on)}")

    def _check(self, draft: Release) -> None:
        if not self._releases.get(draft.id).draft:
            raise NotFoundError(f"draft {draft.id} has been published meanwhile")

    def _removed(self, draft: Release, asset: Asset, file: File) -> bool:
        """Delete a wrong asset, and say whether it was still that, after another look at it and the draft.

        GitHub can't be asked to look and delete at once. In the moment between, the draft could be
        published only by another publisher of the same files whose upload of this one ends right then.
        """
        fresh = self._releases.asset(asset)
        if fresh is not None:
            if self.right(fresh, file):
                return False
            self._check(draft)
            self._releases.delete_asset(fresh)
            say(f"deleted   {asset.name}, which was {'different' if fresh.whole else 'half there'}")
        return True

    def _put(self, draft: Release, file: File) -> None:
        started = time.monotonic()
        try:
            opened = file.path.open("rb")
        except OSError as error:
            raise PipelineError(f"{file.path} can't be read any more: {error.strerror}") from error
        with (
            opened as source,
            tqdm.wrapattr(source, "read", total=file.size, desc=file.name, leave=False, disable=None) as body,
        ):  # no bar where no person looks
            asset = self._releases.upload(draft, file.name, file.size, body)
        if asset.name != file.name:
            self._releases.delete_asset(asset)
            raise GitHubError(f"GitHub renamed {file.name} to {asset.name}")
        say(f"uploaded  {file.name} ({file.size:,} bytes, {time.monotonic() - started:.1f} s)")
