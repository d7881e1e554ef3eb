"""Publish models/model.pt and its reports as a GitHub release.

The release is a draft until every file is uploaded and its digest is checked, so `releases/latest` is
complete at any moment. A second call continues where an interrupted one stopped, and does nothing if all is
done. A published release is never changed. The release becomes the latest one unless it is a prerelease
(v1.2.3-rc.1), or a release with a higher version is published.

Environment: GITHUB_REPOSITORY, GITHUB_TOKEN; optional: GITHUB_API_URL, ARTIFACTORY_URL, ARTIFACTORY_TOKEN,
ARTIFACTORY_REPOSITORY.
"""

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from github.GitRelease import GitRelease

from ml.cli import say
from ml.model.errors import PipelineError
from release import artifactory
from release.assets import Upload
from release.files import Contents, collect
from release.github import MODEL, GitHub, check_tag
from release.transport import (
    ExistsError,
    GitHubError,
    NotFoundError,
    Patience,
    UnavailableError,
    UnsureError,
)

EXAMPLE = "python -m release publish --tag v1.2.3"

_MARK = re.compile(r"<!-- files sha256:([0-9a-f]{64}) -->")
_ROUNDS = 6
_LATEST = "the latest release"
_DRY_RUN = Patience(attempts=2, total_s=20.0, connect_s=5.0, response_s=20.0)


class Publisher:
    """Brings a repository's releases to the state in which one of them holds the contents.

    Two publishers at once do no harm. The body of a draft names the digest of its files, so publishers of
    different files use different drafts; GitHub publishes one release per tag and rejects the second one.
    Publishers of the same files share the oldest draft; neither deletes a correct file, and the slower one
    finds the work done.
    """

    def __init__(
        self, github: GitHub, tag: str, contents: Contents, target: str = "", notes: str = ""
    ) -> None:
        """Send nothing yet.

        Args:
            github: the repository.
            tag: of the release.
            contents: files of the release.
            target: commit or branch for the tag, if the tag doesn't exist yet.
            notes: Markdown; empty: a summary.
        """
        self._github, self._tag, self._contents = github, check_tag(tag), contents
        self._target, self._notes = target, notes
        self._mark = f"<!-- files sha256:{contents.digest} -->"
        self._prerelease = re.match(r"v?[0-9]+(\.[0-9]+)*-", tag) is not None  # as semantic versioning says
        self._upload = Upload(github, contents.files)

    def run(self) -> GitRelease:
        """Publish unless that is done already, and return the release.

        Raises:
            PipelineError: publishing fails; the published releases are unchanged.
        """
        if (release := self.published()) is None:
            try:
                draft = self._draft()
                self._upload.run(draft)
                release = self._publish(draft)
            except (ExistsError, NotFoundError) as error:
                if (release := self.published()) is None:
                    raise
                say(f"another publisher was faster ({error})")
        self._clean_up()
        return release

    def published(self) -> GitRelease | None:
        """Return the published release of the tag, or None.

        Raises:
            PipelineError: it has another model, or lacks a file.
        """
        if (release := self._github.by_tag(self._tag)) is None:
            return None
        present = {asset.name: asset for asset in self._github.assets(release)}
        advice = "a published release is never changed: publish under another tag"
        if MODEL not in present or not self._upload.matches(present[MODEL], self._contents.files[0]):
            raise PipelineError(f"{self._tag} is published with another {MODEL}, or none; {advice}")
        if missing := [file.name for file in self._contents.files if file.name not in present]:
            raise PipelineError(
                f"{self._tag} is published with this model, but without {', '.join(missing)}; {advice}"
            )
        differ = [f.name for f in self._contents.files if not self._upload.matches(present[f.name], f)]
        kept = f"; these files differ and stay as published: {', '.join(differ)}" if differ else ""
        say(f"{self._tag} is published with this model: {release.html_url}{kept}")
        return release

    def plan(self) -> None:
        """Print what `run` would do; send only requests that read."""
        if self.published() is not None:
            return
        own, manual = self._candidates(None)
        if not self._github.has_token:
            say("without GITHUB_TOKEN drafts are not visible; a draft of these files would be continued")
        draft = next(iter(own + manual), None)
        say(f"would continue draft {draft.id}" if draft else f"would create a draft of {self._tag}")
        present = {asset.name: asset for asset in self._github.assets(draft)} if draft else {}
        for file in self._contents.files:
            asset = present.get(file.name)
            if asset is not None and self._upload.matches(asset, file):
                say(f"would keep    {file.name}")
            else:
                say(f"would {'replace' if asset else 'upload '} {file.name} ({file.size:,} bytes)")
        say(f"would publish {self._tag} as {self._kind()}")

    def _candidates(self, created: GitRelease | None) -> tuple[list[GitRelease], list[GitRelease]]:
        """Return drafts of the tag, oldest first: those of these files, and those that a person made."""
        drafts = {draft.id: draft for draft in self._github.drafts(self._tag)}
        if created is not None:  # GitHub's list may lag behind
            drafts.setdefault(created.id, created)
        oldest = [drafts[number] for number in sorted(drafts)]
        own = [draft for draft in oldest if self._mark in (draft.body or "")]
        return own, [draft for draft in oldest if not _MARK.search(draft.body or "")]

    def _draft(self) -> GitRelease:
        """Return the draft to use: the oldest of these files, else one that a person made, else a new one."""
        created: GitRelease | None = None
        problem = ""
        for attempt in range(_ROUNDS):
            own, manual = self._candidates(created)
            if own:
                return own[0]
            if manual:
                say(f"continuing draft {manual[0].id}, which a person made")
                body = self._notes or manual[0].body or self._contents.summary
                created = self._github.update(manual[0], f"{body}\n\n{self._mark}")
                continue
            try:
                body = f"{self._notes or self._contents.summary}\n\n{self._mark}"
                created = self._github.create_draft(self._tag, self._target, body, self._prerelease)
                say(f"created draft {created.id} of {self._tag}")
            except UnsureError as error:  # the next round looks whether it exists
                problem = str(error)
                self._github.back_off(attempt, problem)
        raise UnavailableError(f"no draft of {self._tag} can be created: {problem}")

    def _kind(self) -> str:
        """Return what the release will be called: `_LATEST` if it is to become the latest one."""
        if self._prerelease:
            return "a prerelease"
        version = _version(self._tag)
        published = (r.tag_name for r in self._github.releases() if not (r.draft or r.prerelease))
        newer = next((tag for tag in published if version and _version(tag) > version), "")
        return f"a release that is not the latest, because {newer} is published" if newer else _LATEST

    def _publish(self, draft: GitRelease) -> GitRelease:
        kind = self._kind()
        # Two publishers of different files may both have continued the same draft that a person made.
        body = self._github.release(draft.id).body or ""
        if self._mark not in body:
            raise GitHubError(f"another publisher or a person has changed draft {draft.id}: try again")
        changes: dict[str, object] = {"make_latest": "true" if kind == _LATEST else "false"}
        changes |= {"target_commitish": self._target} if self._target else {}
        body = f"{self._notes}\n\n{self._mark}" if self._notes else body
        release = self._github.update(draft, body, draft=False, prerelease=self._prerelease, **changes)
        if release.draft or release.tag_name != self._tag:
            raise GitHubError(f"draft {draft.id} is still a draft, or has another tag")
        say(f"published {self._tag} as {kind}: {release.html_url}")
        return release

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
    parser.add_argument("--dry-run", action="store_true", help="only print what would be done")


def main(arguments: argparse.Namespace) -> None:
    """Publish, or print what would be done."""
    if not re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._/-]{0,199})?", arguments.target):
        raise PipelineError(f"{arguments.target!r:.80} is not a commit or a branch")
    try:
        notes = arguments.notes.read_text("utf-8") if arguments.notes else ""
    except (OSError, ValueError) as error:
        raise PipelineError(f"{arguments.notes} can't be read: {error}") from error
    check_tag(arguments.tag)
    with tempfile.TemporaryDirectory(prefix="publish-") as folder:
        if arguments.dry_run:
            _dry_run(arguments.tag, Path(folder), arguments.asset)
            return
        github = GitHub.from_environment(write=True)
        store = artifactory.from_environment(github.name, arguments.tag)
        contents = collect(Path(folder), _model_url(github, arguments.tag), arguments.asset)
        Publisher(github, arguments.tag, contents, arguments.target, notes).run()
        if store is not None:
            store.upload(contents.files)


def _dry_run(tag: str, folder: Path, extra: Sequence[Path]) -> None:
    """Print the files and, if the repository can be reached, what would be done there."""
    github, problem = None, ""
    try:
        github = GitHub.from_environment(patience=_DRY_RUN)
    except GitHubError as error:
        problem = str(error)
    contents = collect(folder, _model_url(github, tag) if github else "", extra)
    say(f"{tag}: model {contents.manifest.version}, {len(contents.files)} files")
    for file in contents.files:
        say(f"{file.sha256}  {file.size:>12,}  {file.name}")
    if github is not None:
        try:
            Publisher(github, tag, contents).plan()
            return
        except UnavailableError as error:
            problem = str(error)
    say(f"the present state of the repository is unknown: {problem}")


def _model_url(github: GitHub, tag: str) -> str:
    """Return the URL of a tag's model for browsers."""
    return f"{github.page}/releases/download/{quote(tag)}/{MODEL}"


def _version(tag: str) -> tuple[int, ...]:
    """Return the numbers of a version such as v1.2.3, without zeros at the end; empty if it is none."""
    match = re.fullmatch(r"v?([0-9]+(?:\.[0-9]+)*)(?:\+.*)?", tag)
    numbers = [int(number) for number in match[1].split(".")] if match else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
