"""A repository's releases, brought to where one of them holds the files; safe to kill, and to call twice.

Two publishers at once do no harm. A draft names the files that belong to it, so two that publish different
files work on drafts of their own; GitHub publishes one release a tag, and the slower one is refused. Two that
publish the same files share the oldest draft: neither deletes a file that is whole and right, and the slower
one finds the work done.
"""

import re

from ml.cli import say
from ml.errors import PipelineError
from ml.github.answers import ExistsError, GitHubError, NotFoundError, UnreachableError, UnsureError
from ml.github.release import Release, check_tag
from ml.publishing.files import Contents
from ml.publishing.upload import Upload
from ml.releases import Releases

_MARK = re.compile(r"<!-- files sha256:([0-9a-f]{64}) -->")
_ROUNDS = 6


class Publisher:
    """Brings a repository's releases to where one of them holds the contents."""

    def __init__(
        self, releases: Releases, tag: str, contents: Contents, target: str = "", notes: str = ""
    ) -> None:
        """Ask for nothing yet.

        Args:
            releases: of the repository.
            tag: of the release.
            contents: what it shall hold.
            target: commit or branch where GitHub puts the tag if it isn't there yet.
            notes: Markdown; empty: a summary.
        """
        self._releases, self._tag, self._contents = releases, check_tag(tag), contents
        self._target, self._notes = target, notes
        self._mark = f"<!-- files sha256:{contents.digest} -->"
        # As semantic versioning has it, v1.2.3-rc.1 comes before v1.2.3.
        self._prerelease = re.match(r"v?[0-9]+(\.[0-9]+)*-", tag) is not None
        self._upload = Upload(releases, contents.files)

    def run(self) -> Release:
        """Publish, or find it published; return the release.

        Raises:
            PipelineError: it can't be done; what is published is as it was.
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

    def published(self) -> Release | None:
        """Return the published release of the tag, or None.

        Raises:
            PipelineError: it holds another model, or lacks a file.
        """
        if (release := self._releases.by_tag(self._tag)) is None:
            return None
        there = {asset.name: asset for asset in self._releases.assets(release)}
        never = "a published release is never changed: publish under another tag"
        model = self._contents.model
        if model.name not in there or not self._upload.right(there[model.name], model):
            raise PipelineError(f"{self._tag} is published with another model.pt, or none; {never}")
        if missing := [file.name for file in self._contents.files if file.name not in there]:
            raise PipelineError(
                f"{self._tag} is published with this model, but without {', '.join(missing)}; {never}"
            )
        others = [f.name for f in self._contents.files if not self._upload.right(there[f.name], f)]
        left = f"; published otherwise, and left so: {', '.join(others)}" if others else ""
        say(f"{self._tag} is published with this model: {release.page}{left}")
        return release

    def plan(self) -> None:
        """Say what `run` would do, by reading alone."""
        if self.published() is not None:
            return
        mine, by_hand = self._candidates(None)
        if not self._releases.github.has_token:
            say("drafts are not seen without GITHUB_TOKEN; it would go on with one of these files")
        if not (drafts := mine or by_hand[:1]):
            say(f"would create a draft of {self._tag}")
        else:
            say(f"would go on with draft {drafts[0].id}")
        there = {a.name: a for a in self._releases.assets(drafts[0])} if drafts else {}
        for file in self._contents.files:
            asset = there.get(file.name)
            if asset is not None and self._upload.right(asset, file):
                say(f"would leave   {file.name}")
            else:
                say(f"would {'replace' if asset else 'upload '} {file.name} ({file.size:,} bytes)")
        say(f"would publish {self._tag} as {'a prerelease' if self._prerelease else 'the latest release'}")

    def _candidates(self, made: Release | None) -> tuple[list[Release], list[Release]]:
        """Return drafts of the tag, oldest first: of these files, and those that a person made."""
        drafts = {draft.id: draft for draft in self._releases.drafts(self._tag)}
        if made is not None:  # lists may lag behind
            drafts.setdefault(made.id, made)
        oldest = [drafts[number] for number in sorted(drafts)]
        return [d for d in oldest if self._mark in d.body], [d for d in oldest if not _MARK.search(d.body)]

    def _draft(self) -> Release:
        """Return the draft to work on: the oldest of these files, else a person's, else a new one."""
        made: Release | None = None
        problem = ""
        for attempt in range(_ROUNDS):
            mine, by_hand = self._candidates(made)
            if mine:
                return mine[0]
            if by_hand:
                say(f"going on with draft {by_hand[0].id}, which was made by hand")
                body = self._notes or by_hand[0].body or self._contents.summary
                made = self._releases.update(by_hand[0], body=f"{body}\n\n{self._mark}")
                continue
            try:
                body = f"{self._notes or self._contents.summary}\n\n{self._mark}"
                made = self._releases.create_draft(self._tag, self._target, body, self._prerelease)
                say(f"created draft {made.id} of {self._tag}")
            except UnsureError as error:  # the next round looks whether it is there
                problem = str(error)
                self._releases.github.back_off(attempt, problem)
        raise UnreachableError(f"no draft of {self._tag} can be made: {problem}")

    def _publish(self, draft: Release) -> Release:
        # Two that publish different files may both have gone on with the same draft, one made by hand.
        if self._mark not in self._releases.get(draft.id).body:
            raise GitHubError(
                f"draft {draft.id} has been taken over by another publisher, or edited: try again"
            )
        changes: dict[str, object] = {"draft": False, "prerelease": self._prerelease}
        changes |= {"make_latest": "false" if self._prerelease else "true"}
        changes |= {"target_commitish": self._target} if self._target else {}
        changes |= {"body": f"{self._notes}\n\n{self._mark}"} if self._notes else {}
        release = self._releases.update(draft, **changes)
        if release.draft or release.tag != self._tag:
            raise GitHubError(f"draft {draft.id} is still a draft, or of another tag")
        say(f"published {self._tag}: {release.page}")
        return release

    def _clean_up(self) -> None:
        """Delete drafts of the tag that killed or slower publishers left.

        Only now: with the tag taken, none of them can be published any more, so that it can't be a
        published release that is deleted.
        """
        try:
            for draft in self._releases.drafts(self._tag):
                if _MARK.search(draft.body):
                    self._releases.delete(draft)
                    say(f"deleted draft {draft.id}, a leftover of {self._tag}")
                else:
                    say(f"draft {draft.id} of {self._tag} was made by hand and is left: {draft.page}")
        except GitHubError as error:
            say(f"a leftover draft may be there still: {error}")
