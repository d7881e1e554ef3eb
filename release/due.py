"""Decide whether to train again, in the format of $GITHUB_OUTPUT.

Training again teaches nothing if the photos, the parameters and the code of the pipeline are those of the
latest release, of a later prerelease, or of the model that the gate rejected last. So training is due only if
one of them has changed in git since all of these. Prints `due=true` or `due=false`, and the tag for the new
release, the next patch version; the reason goes to standard error.

Environment: GITHUB_REPOSITORY; optional: GITHUB_TOKEN, GITHUB_API_URL. The checkout needs the tags.
"""

import argparse
import csv
import io
import re
import subprocess
from collections.abc import Sequence

from ml.cli import note, say
from ml.model.errors import PipelineError
from release.github import GitHub
from release.issue import rejected_commit

EXAMPLE = "python -m release due --new-photos 200"
PHOTOS = "collected.csv"
INPUTS = ("dvc.yaml", "dvc.lock", ":(glob)*.dvc", "params.yaml", "label_decisions.csv", PHOTOS, "ml")
"""What a model is made from, as pathspecs of git."""

_FIRST = ("v0.1.", 0)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--always", action="store_true", help="train even if nothing has changed")
    parser.add_argument(
        "--new-photos", type=int, default=0, metavar="N", help=f"train only if {PHOTOS} has N new photos"
    )


def main(arguments: argparse.Namespace) -> None:
    """Print the decision."""
    github = GitHub.from_environment()
    found = github.latest_model()
    latest = found[0].tag_name if found else ""
    newer = (r for r in github.releases() if not r.draft and (not found or r.id > found[0].id))
    later = [release.tag_name for release in newer if github.model(release)]
    rejected = "" if arguments.always else rejected_commit(github)
    due, reason = decide(latest, later, rejected, arguments.new_photos, arguments.always)
    note(f"{'training' if due else 'not training'}: {reason}")
    say(f"due={str(due).lower()}")
    if due:
        say(f"tag={next_tag(latest)}")


def decide(
    latest: str, later: Sequence[str], rejected: str, new_photos: int, always: bool
) -> tuple[bool, str]:
    """Return whether to train again, and why.

    Args:
        latest: tag of the latest release; empty: there is none.
        later: tags of releases that are not the latest although they were made after it: prereleases, such as
            the release of a bad model that was marked as one.
        rejected: commit whose model the gate rejected last; empty: none, or a later one was passed.
        new_photos: number of photos in collected.csv that both must lack; 0: none.
        always: train in any case.

    Raises:
        PipelineError: this is no git checkout that has the tag.
    """
    if always:
        return True, "somebody asked for it"
    trained = {}
    if latest:
        trained[latest] = f"of {latest}"
    trained |= {tag: f"of {tag}, which is not the latest release" for tag in later if _is_in_history(tag)}
    if rejected and _is_in_history(rejected):
        trained[rejected] = "from which the gate rejected a model"
    if new_photos > 0:
        count = len(_photos("HEAD").difference(*map(_photos, trained)))
        return count >= new_photos, f"{count} new photos, at least {new_photos} are needed"
    if not trained:
        return True, "there is no release yet"
    for commit, words in trained.items():
        changed = _git("diff", "--name-only", commit, "HEAD", "--", *INPUTS).splitlines()
        if not changed:
            return False, f"photos, parameters and code are those {words}; review photos, or change them"
    return True, f"{len(changed)} files have changed since {commit}, such as {changed[0]}"


def next_tag(latest: str) -> str:
    """Return the next patch version after the latest release that no tag has yet.

    Raises:
        PipelineError: the latest release is not called like v1.2.3.
    """
    match = re.fullmatch(r"(v?[0-9]+\.[0-9]+\.)([0-9]{1,9})", latest)
    if latest and match is None:
        raise PipelineError(
            f"the latest release is {latest!r:.80}, and only tags like v1.2.3 have a next version: "
            "run release.yml with a tag of your choice"
        )
    minor, number = (match[1], int(match[2]) + 1) if match else _FIRST
    taken = set(_git("tag", "--list").split())
    while f"{minor}{number}" in taken:
        number += 1
    return f"{minor}{number}"


def _photos(commit: str) -> set[str]:
    """Return the ids of the photos in collected.csv of a commit; empty if it has no such file."""
    if not _git("ls-tree", "--name-only", commit, "--", PHOTOS):
        return set()
    rows = csv.reader(io.StringIO(_git("show", f"{commit}:{PHOTOS}")))
    return {row[0] for row in rows if row} - {"id"}


def _is_in_history(commit: str) -> bool:
    """Return whether HEAD descends from a commit, which a forced push may have removed."""
    try:
        _git("merge-base", "--is-ancestor", commit, "HEAD")
    except PipelineError:
        return False
    return True


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise PipelineError(f"git {arguments[0]}: {lines[0] if lines else 'failed'}") from error
    return done.stdout
