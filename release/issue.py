"""Keep one GitHub issue about a retrained model that is not in service.

If the gate has rejected the model, as reports/gate.json says, or if the run has failed, the open issue with
the label `retraining` gets the reason, and a comment; if there is none, one is opened. GitHub sends no mail
about runs that a workflow has started, so nobody would notice without the issue. If the run succeeded and the
gate passed the model, an open issue is closed.

Environment: GITHUB_REPOSITORY, GITHUB_TOKEN; optional: GITHUB_API_URL, GITHUB_SHA, RUN_URL (address of the
workflow run), RELEASED (result of the jobs that train, publish and deploy; `success` by default).
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
TITLE = "Retraining: the new model is not in service"

_SWITCH_ON = "switch on Issues in the repository's settings"
_CLOSED = "This issue is closed when a run of retrain.yml has put a new model into service."
_MAX_BYTES = 1 << 20
_MAX_TEXT = 20_000  # GitHub takes bodies of up to 65,536 characters


def main(arguments: argparse.Namespace) -> None:
    """Open, update or close the issue."""
    report = _read() if GATE_REPORT.is_file() else None
    done = os.environ.get("RELEASED", "success") == "success"
    if done and report is None:
        say(f"{GATE_REPORT} is missing, so there is nothing to report")
        return
    github = GitHub.from_environment(write=True)
    rejected = report is not None and not report["passed"]
    try:
        if report is not None and rejected:
            say(_report(github, describe(report)))
        else:
            say(_close(github) if done else _report(github, _failure(report is not None)))
    except GoneError as error:
        if rejected:
            raise GoneError(f"{error}: {_SWITCH_ON}, or the same model is trained again next time") from None


def describe(report: dict[str, Any]) -> str:
    """Return the body of the issue about a model that the gate has rejected, Markdown.

    Text of the report stands in one block of code: names of classes may contain anything.
    """
    lines = [str(reason) for reason in report["reasons"]]
    text = "\n".join([*lines, "", str(report["table"])]).replace("`", "'")[:_MAX_TEXT]
    commit = os.environ.get("GITHUB_SHA", "")
    of = f" of {commit}" if re.fullmatch(r"[0-9a-f]{40}", commit) else ""
    return (
        f"The gate rejects the model that {_run()} of retrain.yml trained{of}. "
        "The released model stays in service.\n\n"
        f"```text\n{text}\n```\n\n"
        "What to do next: look at the report in the artifacts of the run, review more photos or correct "
        f"labels, and start the workflow again. {_CLOSED}"
    )


def _failure(passed: bool) -> str:
    """Return the body of the issue about a run that has failed; `passed`: the gate has passed its model."""
    what = "published or deployed" if passed else "trained"
    withdrawn = (
        "If the deployment has failed, the release is a prerelease now, and the part *Deploy* of "
        "docs/RUNBOOK.md says how to go on. "
    )
    return (
        f"No new model could be {what}: {_run()} of retrain.yml has failed.\n\n"
        f"What to do next: the log of the run says why. {withdrawn if passed else ''}{_CLOSED}"
    )


def _run() -> str:
    """Return the words for this run, with a link if its address is known."""
    run = os.environ.get("RUN_URL", "")
    return f"the [last run]({run})" if re.fullmatch(r"https?://[!-~]{1,500}", run) else "the last run"


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
def _report(github: GitHub, body: str) -> str:
    if (issue := _open_issue(github)) is None:
        issue = github.repository.create_issue(TITLE, body, labels=[LABEL])
        return f"opened issue {issue.number}"
    issue.edit(body=body)
    issue.create_comment("Another model is not in service. The description above says why.")
    return f"updated issue {issue.number}"


@documented()
def _close(github: GitHub) -> str:
    if (issue := _open_issue(github)) is None:
        return "the new model is in service; no issue is open"
    issue.create_comment("A new model is in service.")
    issue.edit(state="closed")
    return f"closed issue {issue.number}"
