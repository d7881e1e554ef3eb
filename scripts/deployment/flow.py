"""Deploy, test, and go back where the test fails: the same for every target."""

import os
import traceback
from pathlib import Path

from deployment.cancellation import CANCELLATION, Cancelled
from deployment.output import complain, line, say
from deployment.service import Model, model_of
from deployment.smoke import SmokeTest
from deployment.target import DeployError, Deployment, Target, Variables

_WAKE_UP_S = 90  # of a free instance that sleeps

DONE, ROLLED_BACK, BROKEN = 0, 1, 2
"""Exit codes: what was asked for serves; what served before serves again; neither is certain."""


def deploy(
    target: Target, smoke: SmokeTest, image: str, variables: Variables, sha256: str, dry_run: bool
) -> int:
    """Deploy an image; return the exit code.

    Args:
        target: where to.
        smoke: the test that decides.
        image: reference of the image.
        variables: of the service that change.
        sha256: of the model that must answer then; empty: any.
        dry_run: only say what would be done.

    Raises:
        DeployError: nothing has been changed.
    """
    before = target.current()
    model = _describe(before)
    names = ", ".join(f"{name}{' (removed)' if value is None else ''}" for name, value in variables.items())
    say(f"to deploy: {image}; variables that change: {names or 'none'}")
    if dry_run:
        return DONE
    steps = target.deploy(image, variables)
    url = ""
    with CANCELLATION:
        try:
            for url in steps:
                smoke.run(url, sha256)
        except (Exception, Cancelled) as error:  # noqa: BLE001  (whatever it is, the service must not stay so)
            CANCELLATION.ignore()
            return _undo(target, smoke, before, model, image, _told(error))
    say(f"live: {url}")
    _summary("deployed", url, image, model_of(url))
    return DONE


def roll_back(target: Target, smoke: SmokeTest, wanted: str, dry_run: bool) -> int:
    """Go back to an earlier deployment by hand; return the exit code.

    Args:
        target: where.
        smoke: the test of what then serves.
        wanted: the deployment's id; empty: the one before.
        dry_run: only say what would be done.

    Raises:
        DeployError: nothing has been changed.
    """
    _describe(target.current())
    to = target.previous(wanted)
    say(f"to go back to: {to.id} ({to.image})")
    if dry_run:
        return DONE
    with CANCELLATION:
        try:
            url = target.roll_back(to)
            smoke.run(url, "")
        except (Exception, Cancelled) as error:  # noqa: BLE001
            failure = _told(error)
            _fail(f"the rollback to {to.id} failed: {failure}; it may be under way still", failure)
            _summary("rollback failed", to.url, to.image, None)
            return BROKEN
    say(f"live: {url}, {to.id} ({to.image})")
    _summary("rolled back by hand", url, to.image, model_of(url))
    return DONE


def _undo(
    target: Target,
    smoke: SmokeTest,
    before: Deployment | None,
    model: Model | None,
    image: str,
    error: DeployError,
) -> int:
    say(f"failed: {error}; rolling back")
    if error.log_url:
        say(f"log: {error.log_url}")
    try:
        url = target.roll_back(before)
        smoke.run(url, model.sha256 if model else "")
    except Exception as second:  # noqa: BLE001
        failure = _told(second)
        _fail(f"the deploy of {image} failed ({error}), and so did the rollback: {failure}", failure)
        _summary("failed, and so did the rollback", before.url if before else "", image, None)
        return BROKEN
    serves = f"{before.image} ({before.id})" if before else "nothing"
    complain(f"the deploy of {image} failed ({error}); what served before serves again: {serves}")
    _summary(f"failed ({error}); rolled back", url, before.image if before else "", model_of(url))
    return ROLLED_BACK


def _describe(now: Deployment | None) -> Model | None:
    """Say what serves now; return its model, where it tells."""
    if now is None:
        say("nothing serves now")
        return None
    model = model_of(now.url, _WAKE_UP_S)
    say(f"serves now: {now.id} ({now.image}) at {now.url}" + (f", model {model.version}" if model else ""))
    return model


def _told(error: BaseException) -> DeployError:
    if isinstance(error, DeployError):
        return error
    if isinstance(error, Cancelled):
        return DeployError("cancelled")
    last = traceback.extract_tb(error.__traceback__)[-1]  # where, and not what: its text might hold a secret
    return DeployError(f"unexpected {type(error).__name__} in {Path(last.filename).name}, line {last.lineno}")


def _fail(message: str, error: DeployError) -> None:
    complain(message)
    if error.log_url:
        say(f"log: {error.log_url}")


def _summary(result: str, url: str, image: str, model: Model | None) -> None:
    """Tell the workflow, where there is one: a table for its summary, the URL as an output."""
    cells = [result, url, image, model.version if model else ""]
    if file := os.environ.get("GITHUB_STEP_SUMMARY"):
        row = " | ".join(line(cell).replace("|", r"\|") for cell in cells)
        with Path(file).open("a", encoding="utf-8") as summary:
            summary.write(f"| result | URL | image | model |\n| --- | --- | --- | --- |\n| {row} |\n\n")
    if file := os.environ.get("GITHUB_OUTPUT"):
        with Path(file).open("a", encoding="utf-8") as output:
            output.write(f"url={line(url)}\n")
