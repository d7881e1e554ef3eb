"""Upload of a file to a draft: a correct asset is kept, an incomplete or different one is replaced."""

from github.GitRelease import GitRelease
from github.GitReleaseAsset import GitReleaseAsset
from tqdm import tqdm

from ml.cli import say
from release.files import File
from release.github import GitHub, complete, sha256
from release.transport import ExistsError, NotFoundError, UnavailableError, UnsureError

ATTEMPTS = 6


def matches(asset: GitReleaseAsset, file: File) -> bool:
    """Return whether an asset is complete and equal to the file."""
    return asset.name == file.name and complete(asset) and sha256(asset) == file.sha256


def upload(github: GitHub, draft: GitRelease, file: File) -> None:
    """Upload a file unless it is there, and return when the server confirms its digest.

    Raises:
        NotFoundError: the draft has been deleted or published.
        GitHubError: the upload fails.
    """
    problem = ""
    for attempt in range(ATTEMPTS + 1):  # the last one only looks
        asset = {asset.name: asset for asset in github.assets(draft)}.get(file.name)
        if asset is not None and matches(asset, file):
            return
        if attempt == ATTEMPTS:
            break
        try:
            if asset is not None:
                _check_draft(github, draft)
                github.delete(asset)
                say(f"deleted   {asset.name}, which was {'different' if complete(asset) else 'incomplete'}")
            if matches(_send(github, draft, file), file):
                say(f"uploaded  {file.name} ({file.size:,} bytes)")
                return
        except (ExistsError, NotFoundError, UnsureError) as error:  # the next attempt looks what has arrived
            _check_draft(github, draft)
            problem = f" ({error})"
            github.back_off(attempt, f"{file.name} is not uploaded yet{problem}")
    raise UnavailableError(f"{file.name} is not uploaded after {ATTEMPTS} attempts{problem}")


def _check_draft(github: GitHub, draft: GitRelease) -> None:
    """Check that the draft is still one, because a published release is never changed.

    GitHub has no conditional delete. If another publisher completes an asset and publishes the draft right
    after this check, its release lacks the file until it is uploaded again.
    """
    if not github.release(draft.id).draft:
        raise NotFoundError(f"draft {draft.id} has been published in the meantime")


def _send(github: GitHub, draft: GitRelease, file: File) -> GitReleaseAsset:
    with (
        file.path.open("rb") as source,
        tqdm.wrapattr(source, "read", total=file.size, desc=file.name, leave=False, disable=None) as body,
    ):  # disable=None: no progress bar in logs
        return github.upload(draft, file.name, file.size, body)
