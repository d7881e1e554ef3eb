"""Deploy, test, and roll back if the test fails: the same steps for every target."""

import os
import traceback
from pathlib import Path

from deploy.cancellation import CANCELLATION, Cancelled
from deploy.output import complain, line, say
from deploy.smoke import Model, SmokeTest, model_of
from deploy.target import DeployError, Deployment, Target, Variables

_WAKE_UP_S = 90  # of a free instance that sleeps

DONE, ROLLED_BACK, BROKEN = 0, 1, 2
"""Exit codes: the new version serves; the version before serves again; neither is certain."""


def deploy(target: Target, smoke: SmokeTest, image: str, variables: Variables, dry_run: bool) -> int:
    """Deploy an image and return the exit code. Any error that it raises comes before the first change.

    If `variables` sets MODEL_SHA256, that model must answer afterwards.
    """
    before = target.current()
    model = _describe(before)
    names = ", ".join(f"{name}{' (removed)' if value is None else ''}" for name, value in variables.items())
    say(f"to deploy: {image}; variables that change: {names or 'none'}")
    if dry_run:
        return DONE
    sha256 = (variables.get("MODEL_SHA256") or "").lower()
    with CANCELLATION:
        try:
            staged = target.stage(image, variables)
            smoke.run(staged, sha256)
            url = target.promote()
            if url != staged:
                smoke.run(url, sha256)
        except (Exception, Cancelled) as error:  # noqa: BLE001  (whatever it is, it must be undone)
            CANCELLATION.ignore()
            former = model.sha256 if model else ""
            return _undo(target, smoke, before, former, image, as_deploy_error(error))
    say(f"live: {url}")
    _summary("deployed", url, image)
    return DONE


def roll_back(target: Target, smoke: SmokeTest, wanted: str, dry_run: bool) -> int:
    """Go back to an earlier deployment by hand and return the exit code; errors as for `deploy`.

    `wanted` is the deployment's id; if it is empty, it is the one before.
    """
    _describe(target.current())
    to = target.previous(wanted)
    if to is None:
        raise DeployError(f"there is no deployment {wanted}" if wanted else "there is no earlier deployment")
    say(f"to go back to: {to.id} ({to.image})")
    if dry_run:
        return DONE
    with CANCELLATION:
        try:
            url = target.roll_back(to)
            smoke.run(url, "")
        except (Exception, Cancelled) as error:  # noqa: BLE001
            complain(f"the rollback to {to.id} failed: {as_deploy_error(error)}; it may still be under way")
            _summary("rollback failed", to.url, to.image)
            return BROKEN
    say(f"live: {url}, {to.id} ({to.image})")
    _summary("rolled back by hand", url, to.image)
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
    target: Target, smoke: SmokeTest, before: Deployment | None, sha256: str, image: str, error: DeployError
) -> int:
    """Bring back what served before, test it, and return the exit code."""
    say(f"failed: {error}; rolling back")
    failed = f"the deploy of {image} failed ({error})"
    try:
        url = target.roll_back(before)
        if before is None:
            raise DeployError("there is no version before this one to go back to")
        smoke.run(url, sha256)
    except Exception as second:  # noqa: BLE001
        complain(f"{failed}, and so did the rollback: {as_deploy_error(second)}")
        _summary("failed, and so did the rollback", before.url if before else "", image)
        return BROKEN
    complain(f"{failed}; the version before serves again: {before.image} ({before.id})")
    _summary(f"failed ({error}); rolled back", url, before.image)
    return ROLLED_BACK


def _describe(now: Deployment | None) -> Model | None:
    """Print what serves now, and return its model if the service says which one it is."""
    if now is None:
        say("nothing serves now")
        return None
    model = model_of(now.url, _WAKE_UP_S)
    say(f"serves now: {now.id} ({now.image}) at {now.url}" + (f", model {model.version}" if model else ""))
    return model


def _summary(result: str, url: str, image: str) -> None:
    """Write a table to the workflow's summary and the URL to its outputs, if this runs in a workflow."""
    if file := os.environ.get("GITHUB_STEP_SUMMARY"):
        model = model_of(url)
        cells = (result, url, image, model.version if model else "")
        row = " | ".join(line(cell).replace("|", r"\|") for cell in cells)
        with Path(file).open("a", encoding="utf-8") as summary:
            summary.write(f"| result | URL | image | model |\n| --- | --- | --- | --- |\n| {row} |\n\n")
    if file := os.environ.get("GITHUB_OUTPUT"):
        with Path(file).open("a", encoding="utf-8") as output:
            output.write(f"url={line(url)}\n")
