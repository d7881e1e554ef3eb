"""Publish `models/model.pt` as a GitHub release: first a draft, then every file, checked, and public at last.

`python -m ml.publish --tag v1.2.3`, with GITHUB_REPOSITORY and GITHUB_TOKEN set. Calling it again goes on
where the last call was killed, and does nothing where all is done. A published release is never changed, and
`releases/latest` is a whole one at any moment.
"""

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ml.cli import exit_cleanly, say
from ml.errors import PipelineError
from ml.github.answers import GitHubError, UnreachableError
from ml.github.client import GitHub, Patience
from ml.github.hosts import pages
from ml.github.release import check_tag
from ml.publishing import artifactory
from ml.publishing.files import collect
from ml.publishing.publisher import Publisher
from ml.releases import Releases

_DRY = Patience(attempts=2, total_s=20.0, connect_s=5.0, answer_s=20.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Publish, as the command line says."""
    parser = argparse.ArgumentParser(prog="ml.publish", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--tag", required=True, help="such as v1.2.3; v1.2.3-rc.1 is a prerelease")
    parser.add_argument("--target", default="", help="commit or branch for a tag that is not there yet")
    parser.add_argument("--notes", type=Path, help="Markdown of the release's page; default: a summary")
    parser.add_argument("--asset", type=Path, action="append", default=[], help="a further file; repeatable")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9._/-]{0,199})?", options.target):
        raise PipelineError(f"{options.target!r:.80} is no commit or branch")
    try:
        notes = options.notes.read_text("utf-8") if options.notes else ""
    except (OSError, ValueError) as error:
        raise PipelineError(f"{options.notes} can't be read: {error}") from error
    check_tag(options.tag)
    with tempfile.TemporaryDirectory(prefix="publish-") as folder:
        if options.dry_run:
            dry_run(options.tag, Path(folder), options.asset)
            return
        github = GitHub.from_environment(write=True)
        store = artifactory.from_environment(github.repository, options.tag)
        contents = collect(Path(folder), model_url(github, options.tag), options.asset)
        Publisher(Releases(github), options.tag, contents, options.target, notes).run()
        if store is not None:
            store.deploy(contents.files)


def model_url(github: GitHub, tag: str) -> str:
    """Return where a tag's model will be, for everybody."""
    return f"{pages(github.api)}/{github.repository}/releases/download/{quote(tag)}/model.pt"


def dry_run(tag: str, folder: Path, extra: Sequence[Path]) -> None:
    """Say what would be published, and, if the repository can be asked, what would be done there.

    Raises:
        PipelineError: publishing would be refused.
    """
    github, unknown = None, ""
    try:
        github = GitHub.from_environment(patience=_DRY)
    except GitHubError as error:
        unknown = str(error)
    contents = collect(folder, model_url(github, tag) if github else "", extra)
    say(f"{tag}: model {contents.manifest.version}, {len(contents.files)} files")
    for file in contents.files:
        say(f"{file.sha256}  {file.size:>12,}  {file.name}")
    if github is not None:
        try:
            Publisher(Releases(github), tag, contents).plan()
            return
        except UnreachableError as error:
            unknown = str(error)
    say(f"the repository can't be asked what is there: {unknown}")


if __name__ == "__main__":
    with exit_cleanly():
        main()
