"""Deploy, test, and roll back if the test fails: the same steps for every target."""

import dataclasses
import hashlib
import json
import os
import secrets
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.canary.options import Options
from deploy.canary.rules import CandidateRejectedError
from deploy.cancellation import CANCELLATION, Cancelled
from deploy.output import complain, is_secret, line, say
from deploy.smoke import ServedModel, SmokeTest, model_of
from deploy.target import DeployError, Deployment, SplittingTarget, Target, Unfinished, Variables

if TYPE_CHECKING:
    from deploy.canary.steps import Canary

_WAKE_UP_S = 90  # of a free instance that sleeps

DONE, ROLLED_BACK, BROKEN, REJECTED = 0, 1, 2, 3
"""Exit codes: the new version serves; the previous version serves again; neither is certain; the previous
version serves again because a canary was rejected."""


class NotTakenBackError(DeployError):
    """A canary that was cut off can't be taken back; what serves now is not certain."""


def deploy(
    target: Target,
    smoke: SmokeTest,
    image: str,
    variables: Variables,
    dry_run: bool,
    canary: Options | None = None,
) -> int:
    """Deploy an image and return the exit code.

    Any error that it raises comes before the first change, except NotTakenBackError.

    If `variables` sets MODEL_SHA256, that model must answer afterwards. With `canary`, the new version first
    gets shares of the traffic, if the target can divide it and something serves.
    """
    before = target.current()
    fingerprint = _fingerprint(image, variables)
    unfinished = target.unfinished() if isinstance(target, SplittingTarget) else None
    resumed = unfinished if canary and unfinished and _begins(unfinished, fingerprint) else None
    rollout = None
    if canary and _can_be_canary(target, before):
        from deploy.canary.steps import Canary  # imports numpy, which other deploys don't need

        rollout = Canary(canary, resumed.deployment if resumed else f"{fingerprint}-{secrets.token_hex(3)}")
        rollout.check()
    if unfinished and not resumed:
        before = _take_back(target, unfinished, before, dry_run)
    model = None if resumed else _describe(before)  # while traffic is divided, either may answer
    names = ", ".join(f"{name}{' (removed)' if value is None else ''}" for name, value in variables.items())
    say(f"to deploy: {image}; variables that change: {names or 'none'}")
    if dry_run:
        return DONE
    sha256 = (variables.get("MODEL_SHA256") or "").lower()
    with CANCELLATION:
        try:
            if rollout:
                _try_out(target, smoke, image, variables, rollout, resumed)
                url = target.promote()
                smoke.run(url, sha256)
            else:
                staged = target.stage(image, variables)
                smoke.run(staged, sha256)
                url = target.promote()
                if url != staged:
                    smoke.run(url, sha256)
        except (Exception, Cancelled) as error:  # noqa: BLE001  (whatever it is, it must be undone)
            CANCELLATION.ignore()
            former = model.sha256 if model else ""
            code = _undo(target, smoke, before, former, image, as_deploy_error(error))
            return REJECTED if code == ROLLED_BACK and isinstance(error, CandidateRejectedError) else code
    say(f"live: {url}")
    _summary("deployed", url, image)
    return DONE


def roll_back(target: Target, smoke: SmokeTest, wanted: str, dry_run: bool) -> int:
    """Go back to an earlier deployment by hand and return the exit code; errors as for `deploy`.

    `wanted` is the deployment's id; if it is empty, it is the previous one. That is the one that serves
    beside a canary which was cut off.
    """
    before, taken_back = target.current(), False
    if isinstance(target, SplittingTarget) and (unfinished := target.unfinished()):
        before = _take_back(target, unfinished, before, dry_run)
        if before and not wanted:
            return DONE if dry_run else _test_taken_back(smoke, before)
        taken_back = not dry_run
    _describe(before)
    try:
        to = target.previous(wanted)
        if to is None:
            raise DeployError(
                f"there is no deployment {wanted}" if wanted else "there is no earlier deployment"
            )
    except DeployError as error:
        if not taken_back:
            raise
        complain(f"{error}; only the canary was taken back")
        return ROLLED_BACK
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


def _can_be_canary(target: Target, before: Deployment | None) -> bool:
    reason = "" if before else "nothing serves now"
    if not isinstance(target, SplittingTarget):
        reason = "this target cannot divide the traffic"
    if reason:
        say(f"no canary: {reason}; the smoke test alone decides")
    return not reason


def _try_out(
    target: Target,
    smoke: SmokeTest,
    image: str,
    variables: Variables,
    canary: "Canary",
    unfinished: Unfinished | None,
) -> None:
    """Start the new version beside the live one, test it, and give it shares of the traffic."""
    assert isinstance(target, SplittingTarget)
    changes = {**variables, "DEPLOYMENT": canary.deployment}
    if unfinished:
        say(f"canary {unfinished.deployment} was cut off at {unfinished.percent} %: going on")
        url = target.resume(image, changes)
    else:
        url = target.stage_beside(image, changes)
    smoke.run(url, (variables.get("MODEL_SHA256") or "").lower())
    canary.run(target.split, url, unfinished)


def _take_back(
    target: Target, unfinished: Unfinished, before: Deployment | None, dry_run: bool
) -> Deployment | None:
    """Undo a canary that was cut off, unless this run changes nothing; return what serves, at its URL now."""
    text = f"canary {unfinished.deployment} was cut off at {unfinished.percent} %"
    if dry_run:
        say(f"{text}: it would be taken back")
        return before
    say(f"{text}: taking it back")
    with CANCELLATION:
        CANCELLATION.ignore()
        try:
            url = target.roll_back(before)
        except Exception as error:
            raise NotTakenBackError(f"{text}, and can't be taken back: {as_deploy_error(error)}") from error
    return before and dataclasses.replace(before, url=url)


def _test_taken_back(smoke: SmokeTest, live: Deployment) -> int:
    """Test the version that serves alone again, and return the exit code."""
    try:
        smoke.run(live.url, "")
    except DeployError as error:
        complain(f"the canary was taken back, but the previous version fails: {error}")
        _summary("canary taken back by hand; the previous version fails", live.url, live.image)
        return BROKEN
    say(f"live: {live.url}, {live.id} ({live.image})")
    _summary("canary taken back by hand", live.url, live.image)
    return DONE


def _fingerprint(image: str, variables: Variables) -> str:
    """Return what begins the DEPLOYMENT of a canary, so that the same command finds it again."""
    public = [(name, "" if is_secret(name) else value) for name, value in variables.items()]
    content = json.dumps([image, sorted(public)])
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def _begins(unfinished: Unfinished, fingerprint: str) -> bool:
    return unfinished.deployment.startswith(f"{fingerprint}-")


def _undo(
    target: Target, smoke: SmokeTest, before: Deployment | None, sha256: str, image: str, error: DeployError
) -> int:
    """Bring back the previous version, test it, and return the exit code."""
    say(f"failed: {error}; rolling back")
    failed = f"the deploy of {image} failed ({error})"
    try:
        url = target.roll_back(before)
        if before is None:
            raise DeployError("there is no previous version to go back to")
        smoke.run(url, sha256)
    except Exception as second:  # noqa: BLE001
        complain(f"{failed}, and so did the rollback: {as_deploy_error(second)}")
        _summary("failed, and so did the rollback", before.url if before else "", image)
        return BROKEN
    complain(f"{failed}; the previous version serves again: {before.image} ({before.id})")
    _summary(f"failed ({error}); rolled back", url, before.image)
    return ROLLED_BACK


def _describe(now: Deployment | None) -> ServedModel | None:
    """Print what serves now, and return its model if the service says which one it is."""
    if now is None:
        say("nothing serves now")
        return None
    model = model_of(now.url, _WAKE_UP_S)
    say(f"serves now: {now.id} ({now.image}) at {now.url}" + (f", model {model.version}" if model else ""))
    return model


def _summary(result: str, url: str, image: str) -> None:
    """Write a table to the workflow's summary and the URL to its outputs, if this runs in a workflow."""
    try:
        if file := os.environ.get("GITHUB_STEP_SUMMARY"):
            model = model_of(url)
            cells = (result, url, image, model.version if model else "")
            row = " | ".join(line(cell).replace("|", r"\|") for cell in cells)
            with Path(file).open("a", encoding="utf-8") as summary:
                summary.write(f"| result | URL | image | model |\n| --- | --- | --- | --- |\n| {row} |\n\n")
        if file := os.environ.get("GITHUB_OUTPUT"):
            with Path(file).open("a", encoding="utf-8") as output:
                output.write(f"url={line(url)}\n")
    except OSError as error:  # the summary must not decide about the deployment
        complain(f"the workflow's summary cannot be written: {error.strerror}")
