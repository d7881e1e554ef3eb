"""Deploy, test, and roll back if the test fails: the same steps for every target."""

import os
import traceback
from pathlib import Path

from deploy.cancellation import CANCELLATION, Cancelled
from deploy.output import complain, line, say
from deploy.service import Model, model_of
from deploy.smoke import SmokeTest
from deploy.target import DeployError, Deployment, Target, Variables

_WAKE_UP_S = 90  # of a free instance that sleeps

DONE, ROLLED_BACK, BROKEN = 0, 1, 2
"""Exit codes: the new version serves; the version before serves again; neither is certain."""


def deploy(
    target: Target, smoke: SmokeTest, image: str, variables: Variables, sha256: str, dry_run: bool
) -> int:
    """Deploy an image and return the exit code.

    Args:
        target: where to.
        smoke: the test that decides.
        image: reference of the image.
        variables: changes of the service's environment.
        sha256: of the model that must answer afterwards; empty: any.
        dry_run: only print what would be done.

    Raises:
        DeployError: nothing has been changed.
    """
    before = target.current()
    model = _describe(before)
    names = ", ".join(f"{name}{' (removed)' if value is None else ''}" for name, value in variables.items())
    say(f"to deploy: {image}; variables that change: {names or 'none'}")
    if dry_run:
        return DONE
    with CANCELLATION:
        try:
            staged = target.stage(image, variables)
            smoke.run(staged, sha256)
            url = target.promote()
            if url != staged:
                smoke.run(url, sha256)
        except (Exception, Cancelled) as error:  # noqa: BLE001  (whatever it is, it must be undone)
            CANCELLATION.ignore()
            return _undo(target, smoke, before, model, image, as_deploy_error(error))
    say(f"live: {url}")
    _summary("deployed", url, image, model_of(url))
    return DONE


def roll_back(target: Target, smoke: SmokeTest, wanted: str, dry_run: bool) -> int:
    """Go back to an earlier deployment by hand and return the exit code.

    Args:
        target: where.
        smoke: the test of the deployment that serves afterwards.
        wanted: the deployment's id; empty: the one before.
        dry_run: only print what would be done.

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
            complain(f"the rollback to {to.id} failed: {as_deploy_error(error)}; it may still be under way")
            _summary("rollback failed", to.url, to.image, None)
            return BROKEN
    say(f"live: {url}, {to.id} ({to.image})")
    _summary("rolled back by hand", url, to.image, model_of(url))
    return DONE


def as_deploy_error(error: BaseException) -> DeployError:
    """Return any error as one with a message that is safe to print."""
    if isinstance(error, DeployError):
        return error
    if isinstance(error, Cancelled):
        return DeployError("cancelled")
    last = traceback.extract_tb(error.__traceback__)[-1]  # where it happened; its text may hold a secret
    return DeployError(f"unexpected {type(error).__name__} in {Path(last.filename).name}, line {last.lineno}")


def _undo(
    target: Target,
    smoke: SmokeTest,
    before: Deployment | None,
    model: Model | None,
    image: str,
    error: DeployError,
) -> int:
    """Bring back what served before, test it, and return the exit code."""
    say(f"failed: {error}; rolling back")
    try:
        url = target.roll_back(before)
        smoke.run(url, model.sha256 if model else "")
    except Exception as second:  # noqa: BLE001
        failure = as_deploy_error(second)
        complain(f"the deploy of {image} failed ({error}), and so did the rollback: {failure}")
        _summary("failed, and so did the rollback", before.url if before else "", image, None)
        return BROKEN
    serves = f"{before.image} ({before.id})" if before else "nothing"
    complain(f"the deploy of {image} failed ({error}); the version before serves again: {serves}")
    _summary(f"failed ({error}); rolled back", url, before.image if before else "", model_of(url))
    return ROLLED_BACK


def _describe(now: Deployment | None) -> Model | None:
    """Print what serves now, and return its model if the service says which one it is."""
    if now is None:
        say("nothing serves now")
        return None
    model = model_of(now.url, _WAKE_UP_S)
    say(f"serves now: {now.id} ({now.image}) at {now.url}" + (f", model {model.version}" if model else ""))
    return model


def _summary(result: str, url: str, image: str, model: Model | None) -> None:
    """Write a table to the workflow's summary and the URL to its outputs, if this runs in a workflow."""
    cells = [result, url, image, model.version if model else ""]
    if file := os.environ.get("GITHUB_STEP_SUMMARY"):
        row = " | ".join(line(cell).replace("|", r"\|") for cell in cells)
        with Path(file).open("a", encoding="utf-8") as summary:
            summary.write(f"| result | URL | image | model |\n| --- | --- | --- | --- |\n| {row} |\n\n")
    if file := os.environ.get("GITHUB_OUTPUT"):
        with Path(file).open("a", encoding="utf-8") as output:
            output.write(f"url={line(url)}\n")
