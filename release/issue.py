"""Keep one GitHub issue about a retrained model that the gate rejects.

If the gate has rejected the model, the open issue with the label `retraining` gets the comparison of
reports/gate.json, and a comment; if there is none, one is opened. If the gate has passed the model, an open
issue is closed. Without reports/gate.json there is nothing to report: the training has failed earlier.

Environment: GITHUB_REPOSITORY, GITHUB_TOKEN; optional: GITHUB_API_URL, GITHUB_SHA, RUN_URL (address of the
workflow run).
"""

import argparse
import json
import os
import re
from typing import Any

from github.Issue import Issue

from ml.cli import note, say
from ml.model.errors import PipelineError
from ml.paths import GATE_REPORT
from release.github import GitHub, documented
from release.transport import GoneError

EXAMPLE = "python -m release issue"
LABEL = "retraining"
TITLE = "Retraining: the gate rejects the new model"

_SWITCH_ON = "switch on Issues in the repository's settings"
_MAX_BYTES = 1 << 20
_MAX_TEXT = 20_000  # GitHub takes bodies of up to 65,536 characters


def main(arguments: argparse.Namespace) -> None:
    """Open, update or close the issue."""
    if not GATE_REPORT.is_file():
        say(f"{GATE_REPORT} is missing: the training failed before the gate, so there is no comparison")
        return
    report = _read()
    github = GitHub.from_environment(write=True)
    try:
        say(_passed(github) if report["passed"] else _rejected(github, describe(report)))
    except GoneError as error:
        if not report["passed"]:
            raise GoneError(f"{error}: {_SWITCH_ON}, or the same model is trained again next time") from None


def describe(report: dict[str, Any]) -> str:
    """Return the body of the issue, Markdown.

    Text of the report stands in one block of code: names of classes may contain anything.
    """
    lines = [str(reason) for reason in report["reasons"]]
    text = "\n".join([*lines, "", str(report["table"])]).replace("`", "'")[:_MAX_TEXT]
    run, commit = os.environ.get("RUN_URL", ""), os.environ.get("GITHUB_SHA", "")
    trained = f"the [last run]({run})" if re.fullmatch(r"https?://[!-~]{1,500}", run) else "the last run"
    of = f" of {commit}" if re.fullmatch(r"[0-9a-f]{40}", commit) else ""
    return (
        f"The gate rejects the model that {trained} of retrain.yml trained{of}. "
        "The released model stays in service.\n\n"
        f"```text\n{text}\n```\n\n"
        "What to do next: look at the report in the artifacts of the run, review more photos or correct "
        "labels, and start the workflow again. This issue is closed when the gate passes a model."
    )


def rejected_commit(github: GitHub) -> str:
    """Return the commit whose model the gate rejected last, as the open issue says; empty: there is none."""
    try:
        issue = _open_issue(github)
    except GoneError as error:
        note(f"warning: {error}: {_SWITCH_ON}, where rejected models are noted")
        return ""
    match = re.search(r"of ([0-9a-f]{40})\. The released", (issue.body or "") if issue else "")
    return match[1] if match else ""


def _read() -> dict[str, Any]:
    try:
        with GATE_REPORT.open("rb") as file:
            report = json.loads(file.read(_MAX_BYTES))
        if not isinstance(report["passed"], bool) or not isinstance(report["reasons"], list):
            raise TypeError
        report["table"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PipelineError(f"{GATE_REPORT} is not a report of `python -m release gate`") from error
    return dict(report)


@documented()
def _open_issue(github: GitHub) -> Issue | None:
    """Return the oldest open issue with the label, or None. The API lists pull requests as issues too.

    Raises:
        GoneError: the repository has issues switched off, as forks have at first.
    """
    listed = github.repository.get_issues(state="open", labels=[LABEL], sort="created", direction="asc")
    return next((issue for issue in listed if issue.pull_request is None), None)


@documented()
def _rejected(github: GitHub, body: str) -> str:
    if (issue := _open_issue(github)) is None:
        issue = github.repository.create_issue(TITLE, body, labels=[LABEL])
        return f"opened issue {issue.number}"
    issue.edit(body=body)
    issue.create_comment("The gate rejected another model. The description above has the new comparison.")
    return f"updated issue {issue.number}"


@documented()
def _passed(github: GitHub) -> str:
    if (issue := _open_issue(github)) is None:
        return "the gate has passed the model; no issue is open"
    issue.create_comment("The gate has passed a new model.")
    issue.edit(state="closed")
    return f"closed issue {issue.number}"
