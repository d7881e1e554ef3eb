"""The report of a canary: Markdown, for the workflow's summary and --report."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.canary.judge import Finding
from deploy.canary.options import Options
from deploy.canary.rules import RULES
from deploy.output import complain, line


@dataclass
class Step:
    """One share of the traffic, and what was known at its last look."""

    percent: int
    minutes: float = 0.0
    looks: int = 0
    findings: list[Finding] = field(default_factory=list)
    note: str = ""


def markdown(outcome: str, steps: Sequence[Step], options: Options, slow_s: float) -> str:
    """Return the report: the outcome, and a table per step."""
    parts = [
        f"### Canary: {_cell(outcome)}",
        f"A new version that is within every tolerance is rejected with a probability of at most "
        f"{options.alpha:g}, over all looks and metrics. Shares in percent, differences in points; each "
        f"interval holds at every look. `slow`: more than {slow_s:g} s.",
    ]
    for step in steps:
        title = f"**{step.percent} % of the traffic**, {step.minutes:.1f} minutes, {step.looks} looks"
        parts.append(f"{title}{': ' + _cell(step.note) if step.note else ''}")
        if step.findings:
            parts.append(_table(step.findings))
    if all(finding.rule != "feedback" for step in steps for finding in step.findings):
        parts.append("Feedback is not compared: there is none, or both versions serve the same model.")
    return "\n\n".join(parts) + "\n\n"


def _table(findings: Sequence[Finding]) -> str:
    rows = [
        "| metric | current version | new version | difference | interval | tolerance | |",
        "| --- " * 7 + "|",
    ]
    for one in findings:
        sign = "±" if RULES[one.rule].both_ways else "+"
        cells = (
            *(_share(events, trials) for events, trials in zip(one.events, one.trials, strict=True)),
            _difference(one),
            _bounds(one),
            f"{sign}{100 * one.tolerance:g}",
            "**harm**" if one.harm else "",
        )
        rows.append(f"| {_cell(one.name)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def describe(finding: Finding) -> str:
    """Return a finding as a sentence."""
    candidate, champion = (_share(finding.events[arm], finding.trials[arm]) for arm in (1, 0))
    return (
        f"{finding.name} ({RULES[finding.rule].events}): {candidate} of the new version, {champion} of the "
        f"current one; the difference is {_bounds(finding)} points, {100 * finding.tolerance:g} are tolerated"
    )


def publish(text: str, path: Path | None) -> None:
    """Append the report to the workflow's summary and write it to a file, as far as they are wanted."""
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    try:
        if summary:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(text)
        if path:
            path.write_text(text, encoding="utf-8")
    except OSError as error:  # the report must not decide about the deployment
        complain(f"the report cannot be written: {error.strerror}")


def _share(events: float, trials: float) -> str:
    return f"{100 * events / trials:.2f} % of {trials:,.0f}" if trials else "none"


def _difference(one: Finding) -> str:
    if not all(one.trials):
        return ""
    return f"{100 * (one.events[1] / one.trials[1] - one.events[0] / one.trials[0]):+.2f}"


def _bounds(finding: Finding) -> str:
    """Return the interval of a finding in words. A bound of -1 or 1 says nothing."""
    low, high = f"{100 * finding.low:+.1f}", f"{100 * finding.high:+.1f}"
    if finding.high == 1:
        return f"at least {low}" if finding.low > -1 else "unknown"
    return f"from {low} to {high}" if finding.low > -1 else f"at most {high}"


def _cell(text: str) -> str:
    return line(text).replace("|", r"\|")
