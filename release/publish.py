"""Publish models/model.pt and its reports as a GitHub release.

The release is a draft until every file is uploaded and its digest is checked, so `releases/latest` is
complete at any moment. A second call continues where an interrupted one stopped, and does nothing if all is
done. A published release is never changed. The release becomes the latest one unless it is a prerelease
(v1.2.3-rc.1), or a release with a higher version is published.

Environment: GITHUB_REPOSITORY, GITHUB_TOKEN; optional: GITHUB_API_URL, MODEL_SIGNING_KEY (an Ed25519 private
key: the release then contains model.pt.sig), ARTIFACTORY_URL, ARTIFACTORY_TOKEN, ARTIFACTORY_REPOSITORY.
"""

import argparse
import os
import re
import tempfile
from pathlib import Path
from urllib.parse import quote

from github.GitRelease import GitRelease

from ml.cli import say
from ml.model.errors import PipelineError
from release import artifactory
from release.assets import ATTEMPTS, matches, upload
from release.files import Contents, collect
from release.github import MODEL, GitHub, check_tag
from release.transport import ExistsError, GitHubError, NotFoundError, UnavailableError, UnsureError

EXAMPLE = "python -m release publish --tag v1.2.3"

# As semantic versioning (v1.2.3-rc.1) and PEP 440 (v1.2.3rc1) say.
_PRERELEASE = re.compile(
    r"v?[0-9]+(\.[0-9]+)*(-|[._]?(a|alpha|b|beta|c|rc|pre|preview|dev)[._-]?[0-9]*$)", re.IGNORECASE
)
_MARK = re.compile("<!-- files sha256:[0-9a-f]{64} -->")
_LATEST = "the latest release"


class Publisher:
    """Brings a repository's releases to the state in which one of them holds the contents.

    Two publishers at once do no harm. The body of a draft names the digest of its files, so a publisher
    continues only a draft of the same files, and deletes a file of it only if that is incomplete or different
    when it is listed. GitHub publishes one release per tag and rejects the second one.
    """

    def __init__(
        self, github: GitHub, tag: str, contents: Contents, target: str = "", notes: str = ""
    ) -> None:
        """Send nothing yet.

        Args:
            github: the repository.
            tag: of the release.
            contents: files of the release.
            target: commit or branch for a new tag; a commit must be that of the tag, if the tag exists.
            notes: Markdown; empty: a summary.
        """
        self._github, self._tag, self._contents, self._target = github, check_tag(tag), contents, target
        self._mark = f"<!-- files sha256:{contents.digest} -->"
        self._body = f"{notes or contents.summary}\n\n{self._mark}"
        self._prerelease = _PRERELEASE.match(tag) is not None

    def run(self) -> None:
        """Publish unless that is done already.

        Raises:
            PipelineError: publishing fails, or the tag has another commit; the published releases are
                unchanged.
        """
        if not self.is_published():
            if _tag_exists(self._github, self._tag, self._target):
                self._target = ""  # a token needs more rights to name one
            try:
                draft = self._draft()
                for file in self._contents.files:
                    upload(self._github, draft, file)
                self._check_complete(draft)
                kind = self._kind()
                release = self._github.publish(
                    draft, self._target, self._body, self._prerelease, latest=kind == _LATEST
                )
                say(f"published {self._tag} as {kind}: {release.html_url}")
            except (ExistsError, NotFoundError) as error:
                if not self.is_published():
                    raise
                say(f"another publisher was faster ({error})")
        self._clean_up()

    def _check_complete(self, draft: GitRelease) -> None:
        """Check all files again, because another publisher may have deleted one since it was uploaded."""
        present = {asset.name: asset for asset in self._github.assets(draft)}
        for file in self._contents.files:
            if file.name not in present or not matches(present[file.name], file):
                raise GitHubError(f"draft {draft.id} has been changed by someone else: run the command again")

    def is_published(self) -> bool:
        """Return whether the tag is published with these files.

        Raises:
            PipelineError: it is published with another model, or without a file.
        """
        if (release := self._github.by_tag(self._tag)) is None:
            return False
        present = {asset.name: asset for asset in self._github.assets(release)}
        files = {file.name: file for file in self._contents.files}
        missing = [name for name in files if name not in present]
        differ = [name for name in files if name in present and not matches(present[name], files[name])]
        advice = "a published release is never changed: publish under another tag"
        if MODEL in missing + differ:
            raise PipelineError(f"{self._tag} is published with another {MODEL}, or none; {advice}")
        if missing:
            raise PipelineError(
                f"{self._tag} is published with this model, but without {', '.join(missing)}; {advice}"
            )
        kept = f"; these files differ and stay as published: {', '.join(differ)}" if differ else ""
        say(f"{self._tag} is published with this model: {release.html_url}{kept}")
        return True

    def plan(self) -> None:
        """Print what `run` would do; send only requests that read."""
        say(f"{self._tag}: model {self._contents.manifest.version}, {len(self._contents.files)} files")
        if self.is_published():
            return
        if not self._github.has_token:
            say("without GITHUB_TOKEN drafts are not visible; a draft of these files would be continued")
        draft = self._own_draft()
        say(f"would continue draft {draft.id}" if draft else f"would create a draft of {self._tag}")
        present = {asset.name: asset for asset in self._github.assets(draft)} if draft else {}
        for file in self._contents.files:
            asset = present.get(file.name)
            verb = "upload" if asset is None else "keep" if matches(asset, file) else "replace"
            say(f"would {verb:7} {file.name} ({file.size:,} bytes, SHA-256 {file.sha256})")
        say(f"would publish {self._tag} as {self._kind()}")

    def _own_draft(self) -> GitRelease | None:
        """Return the oldest draft of these files."""
        drafts = self._github.drafts(self._tag)
        return next((draft for draft in drafts if self._mark in (draft.body or "")), None)

    def _draft(self) -> GitRelease:
        """Return the draft of these files, which is created if there is none."""
        problem = ""
        for attempt in range(ATTEMPTS + 1):  # the last one only looks
            if (draft := self._own_draft()) is not None:
                return draft
            if attempt == ATTEMPTS:
                break
            try:
                draft = self._github.create_draft(self._tag, self._target, self._body, self._prerelease)
            except UnsureError as error:  # the next attempt looks whether it exists
                problem = f" ({error})"
                self._github.back_off(attempt, str(error))
            else:
                say(f"created draft {draft.id} of {self._tag}")
                return draft
        raise UnavailableError(f"no draft of {self._tag} can be created{problem}")

    def _kind(self) -> str:
        """Return what the release will be called: `_LATEST` if it is to become the latest one."""
        if self._prerelease:
            return "a prerelease"
        version = _version(self._tag)
        published = (r.tag_name for r in self._github.releases() if not (r.draft or r.prerelease))
        newer = next((tag for tag in published if version and _version(tag) > version), "")
        return f"a release that is not the latest, because {newer} is published" if newer else _LATEST

    def _clean_up(self) -> None:
        """Delete drafts of the tag that interrupted or slower publishers left behind.

        This comes last: as the tag is taken, none of them can become a published release any more.
        """
        try:
            for draft in self._github.drafts(self._tag):
                if _MARK.search(draft.body or ""):
                    self._github.delete(draft)
                    say(f"deleted draft {draft.id}, a leftover of {self._tag}")
                else:
                    say(f"draft {draft.id} of {self._tag}, which a person made, stays: {draft.html_url}")
        except GitHubError as error:
            say(f"a leftover draft may still exist: {error}")


def _tag_exists(github: GitHub, tag: str, target: str) -> bool:
    """Return whether a tag exists.

    Args:
        github: the repository.
        tag: the tag.
        target: commit that the tag must have if it exists; of a branch, nothing is checked.

    Raises:
        PipelineError: the tag has another commit.
    """
    commit = github.commit_of(tag)
    if commit and re.fullmatch("[0-9a-f]{40}", target) and commit != target:
        raise PipelineError(
            f"the tag {tag} exists, at commit {commit} instead of {target}: choose another tag"
        )
    return bool(commit)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--tag", required=True, help="tag of the release, such as v1.2.3; v1.2.3-rc.1 is a prerelease"
    )
    parser.add_argument(
        "--target", default="", help="commit or branch for the tag, if the tag doesn't exist yet"
    )
    parser.add_argument(
        "--notes", type=Path, metavar="FILE", help="text of the release, Markdown; default: a summary"
    )
    parser.add_argument(
        "--asset",
        type=Path,
        metavar="FILE",
        action="append",
        default=[],
        help="an additional file; repeatable",
    )
    parser.add_argument(
        "--candidate",
        action="store_true",
        help="publish the model even if packaging marked it as a candidate",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print what would be done")
    parser.add_argument(
        "--check-tag", action="store_true", help="only check that a release can get this tag; needs no model"
    )


def main(arguments: argparse.Namespace) -> None:
    """Publish, or print what would be done."""
    if not re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._/-]{0,199})?", arguments.target):
        raise PipelineError(f"{arguments.target!r:.80} is not a commit or a branch")
    try:
        notes = arguments.notes.read_text("utf-8") if arguments.notes else ""
    except (OSError, ValueError) as error:
        raise PipelineError(f"{arguments.notes} can't be read: {error}") from error
    check_tag(arguments.tag)
    if arguments.check_tag:
        _check_free(GitHub.from_environment(), arguments.tag, arguments.target)
        return
    try:
        with tempfile.TemporaryDirectory(prefix="publish-") as folder:
            _publish(arguments, notes, Path(folder))
    except OSError as error:
        raise PipelineError(f"{error.filename or 'a file'}: {error.strerror}") from error


def _check_free(github: GitHub, tag: str, target: str) -> None:
    if (release := github.by_tag(tag)) is not None:
        raise PipelineError(f"{tag} is published already, {release.html_url}: choose another tag")
    _tag_exists(github, tag, target)
    say(f"a release can get the tag {tag}")


def _publish(arguments: argparse.Namespace, notes: str, folder: Path) -> None:
    github = GitHub.from_environment(write=not arguments.dry_run)
    store = artifactory.from_environment(github.name, arguments.tag)
    url = f"{github.page}/releases/download/{quote(arguments.tag)}/{MODEL}"
    signing_key = os.environ.get("MODEL_SIGNING_KEY", "").strip()
    contents = collect(folder, url, arguments.asset, signing_key, arguments.candidate)
    if contents.public_key:
        say(f"signed {MODEL}: services with MODEL_PUBLIC_KEY={contents.public_key} accept it")
    publisher = Publisher(github, arguments.tag, contents, arguments.target, notes)
    if arguments.dry_run:
        publisher.plan()
        return
    publisher.run()
    if store is not None:
        store.upload(contents.files)


def _version(tag: str) -> tuple[int, ...]:
    """Return the numbers of a version such as v1.2.3, without zeros at the end; empty if it is none."""
    match = re.fullmatch(r"v?([0-9]+(?:\.[0-9]+)*)(?:\+.*)?", tag)
    numbers = [int(number) for number in match[1].split(".")] if match else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
