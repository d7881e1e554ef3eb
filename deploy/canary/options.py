"""The options of a canary, and their check."""

import argparse
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.canary.rules import ALPHA, MAX_POINTS, RULES
from deploy.output import hide
from deploy.target import DeployError
from ml.api_session import may_get_secrets
from ml.model import NAME

ROLL_BACK, PROMOTE = "roll-back", "promote"


@dataclass(frozen=True)
class Options:
    """How a canary is done.

    Attributes:
        shares: of the traffic that the candidate gets, one after the other, in percent.
        step_s: how long it gets each, in seconds.
        look_s: seconds between two looks, which is also the length of a block of the test.
        prometheus: URL.
        token: Bearer token for Prometheus; empty: none.
        job: the service's job in Prometheus.
        least: predictions of each version in a step that are enough to go on.
        too_little: what to do if there are fewer at the end of a step: ROLL_BACK or PROMOTE.
        alpha: probability that a good candidate is rejected, at most.
        tolerances: by rule, instead of the rule's own.
        report: file for the report; None: none.
    """

    shares: tuple[int, ...]
    step_s: float
    look_s: float
    prometheus: str
    token: str
    job: str
    least: int
    too_little: str
    alpha: float
    tolerances: Mapping[str, float]
    report: Path | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    group = parser.add_argument_group("canary")
    add = group.add_argument
    add(
        "--canary",
        default="",
        metavar="PERCENT[,PERCENT...]",
        help="give the new version these shares of the traffic first, such as 10,50, while Prometheus shows "
        "no harm; otherwise roll back, with exit code 3",
    )
    add("--minutes", type=float, default=15, help="minutes at each share (default: 15)")
    add(
        "--prometheus",
        default=os.environ.get("PROMETHEUS_URL", ""),
        metavar="URL",
        help="URL of Prometheus (default: $PROMETHEUS_URL); $PROMETHEUS_TOKEN is sent as a Bearer token",
    )
    add("--job", default=NAME, help=f"the service's job in Prometheus (default: {NAME})")
    add("--look", type=float, default=15, metavar="SECONDS", help="pause between two looks (default: 15)")
    add(
        "--least",
        type=int,
        default=100,
        metavar="PREDICTIONS",
        help="predictions of each version in a step that are enough to go on (default: 100)",
    )
    add(
        "--too-little",
        choices=(ROLL_BACK, PROMOTE),
        default=ROLL_BACK,
        help="what to do if there were fewer at the end of a step (default: roll-back)",
    )
    add(
        "--false-alarms",
        type=float,
        default=ALPHA,
        metavar="SHARE",
        help=f"share of good versions that may be rejected, at most (default: {ALPHA})",
    )
    add("--report", type=Path, metavar="FILE", help="write the report, in Markdown, to this file too")
    tolerances = ", ".join(f"{name} {rule.tolerance}" for name, rule in RULES.items())
    add(
        "--tolerance",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help=f"difference of shares that is not harm; repeatable (default: {tolerances})",
    )


def options(arguments: argparse.Namespace) -> Options | None:
    """Return the checked options, or None without --canary; raise DeployError if one is wrong."""
    if not arguments.canary:
        return None
    if not re.fullmatch(r"\d{1,2}(,\d{1,2}){0,9}", arguments.canary):
        raise DeployError("--canary must be up to ten percentages from 1 to 99, such as 10,50")
    shares = tuple(map(int, arguments.canary.split(",")))
    if 0 in shares or list(shares) != sorted(set(shares)):
        raise DeployError("--canary: percentages must be from 1 to 99, and ascend")
    if not (arguments.minutes > 0 and arguments.look > 0 and arguments.look <= 60 * arguments.minutes):
        raise DeployError(
            "--minutes and --look must be more than 0, and a look must not take longer than a step"
        )
    if len(shares) * 60 * arguments.minutes / arguments.look > MAX_POINTS / 2:
        raise DeployError(f"--look is too short: more than {MAX_POINTS // 2} looks")
    if not 0 < arguments.false_alarms < 0.5:
        raise DeployError("--false-alarms must be between 0 and 0.5")
    if arguments.least < 1:
        raise DeployError("--least must be at least 1")
    if not re.fullmatch(r"[\w.:/-]{1,200}", arguments.job):
        raise DeployError("--job may hold only letters, digits and . : / - _")
    token = os.environ.get("PROMETHEUS_TOKEN", "")
    hide(token)
    if token and not re.fullmatch(r"[!-~]+", token):
        raise DeployError("PROMETHEUS_TOKEN must be printable ASCII without blanks")
    url = arguments.prometheus
    if not re.fullmatch(r"https?://[^@?#\s]+", url):
        raise DeployError(
            "--canary needs --prometheus or PROMETHEUS_URL: http://… or https://…, without user"
        )
    if token and not may_get_secrets(url):
        raise DeployError("--prometheus must start with https:// if PROMETHEUS_TOKEN is set")
    return Options(
        shares=shares,
        step_s=60 * arguments.minutes,
        look_s=arguments.look,
        prometheus=url,
        token=token,
        job=arguments.job,
        least=arguments.least,
        too_little=arguments.too_little,
        alpha=arguments.false_alarms,
        tolerances=dict(map(_tolerance, arguments.tolerance)),
        report=arguments.report,
    )


def _tolerance(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    if name not in RULES or not re.fullmatch(r"0(\.\d{1,6})?", value):
        raise DeployError(
            f"--tolerance must be NAME=SHARE with one of {', '.join(RULES)} and a share below 1"
        )
    return name, float(value)
