"""Leads a candidate through its shares of the traffic, and decides after each look."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from deploy.canary import report
from deploy.canary.judge import judge
from deploy.canary.options import PROMOTE, Options
from deploy.canary.reader import Reader
from deploy.canary.rules import CandidateRejectedError
from deploy.canary.sequential import Array
from deploy.cancellation import CANCELLATION
from deploy.output import say
from deploy.smoke import is_ready
from deploy.target import DeployError, Unfinished
from monitoring.client import Prometheus, PrometheusError

_QUERY_S = 30
_BLIND_S = 180.0
"""Prometheus may be silent for this long, or for a whole step if that is shorter."""
_NOT_READY = 3  # looks
_ALL = 100  # percent


@dataclass
class Canary:
    """One canary.

    Attributes:
        options: how it is done.
        deployment: the candidate's name in the metrics.
    """

    options: Options
    deployment: str
    _steps: list[report.Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        options = self.options
        prometheus = Prometheus(options.prometheus, options.token, _QUERY_S)
        self._reader = Reader(prometheus, options.job, self.deployment, options.look_s)

    def check(self) -> None:
        """Raise DeployError unless Prometheus answers and knows the service."""
        try:
            if not self._reader.instances():
                raise DeployError(f"Prometheus has no metrics of job {self.options.job}")
        except PrometheusError as error:
            raise DeployError(str(error)) from None

    def run(self, split: Callable[[int], None], url: str, unfinished: Unfinished | None) -> None:
        """Give the candidate one share after the other; return if it may have all traffic.

        Args:
            split: gives the candidate a share of the traffic, in percent.
            url: of the candidate.
            unfinished: the canary that was cut off and goes on at its share; None: it begins.

        Raises:
            CandidateRejectedError: it must be rolled back; the message says why.
            DeployError: the target failed.
            Cancelled: a signal came.
        """
        outcome = "cut off"
        try:
            self._reader.begin()
            for percent in self._shares(unfinished):
                self._step(split, url, percent)
            outcome = "no harm was found"
        except PrometheusError as error:
            outcome = f"Prometheus does not answer: {error}"
            raise CandidateRejectedError(outcome) from None
        except DeployError as error:
            outcome = str(error)
            raise
        finally:
            text = report.markdown(outcome, self._steps, self.options, self._reader.slow_s)
            report.publish(text, self.options.report)

    def _shares(self, unfinished: Unfinished | None) -> Sequence[int]:
        """Return the shares that are left: none if the candidate has all traffic already."""
        shares = self.options.shares
        if unfinished is None:
            return shares
        if unfinished.percent == _ALL:
            return ()
        return [percent for percent in shares if percent >= unfinished.percent] or shares[-1:]

    def _step(self, split: Callable[[int], None], url: str, percent: int) -> None:
        options, step = self.options, report.Step(percent)
        before = self._answered(self._steps[-1]) if self._steps else np.zeros(2)
        self._steps.append(step)
        split(percent)
        say(f"canary: {percent} % of the traffic for {options.step_s / 60:g} minutes")
        began = seen = time.monotonic()
        not_ready, over = 0, False
        while not over:
            CANCELLATION.pause(min(options.look_s, max(0.0, began + options.step_s - time.monotonic())))
            now = time.monotonic()
            over = now >= began + options.step_s
            step.minutes, step.looks = (now - began) / 60, step.looks + 1
            not_ready = 0 if is_ready(url) else not_ready + 1
            if not_ready >= _NOT_READY:
                self._reject(step, f"the new version is not ready at {not_ready} looks in a row")
            try:
                step.findings = judge(self._reader.read(), options.tolerances, options.alpha, intervals=over)
                seen = now
            except PrometheusError as error:
                say(f"canary: {error}")
                silent_s = min(_BLIND_S, options.step_s)
                if over or now - seen >= silent_s:
                    self._reject(step, f"Prometheus has not answered for {now - seen:.0f} s: {error}")
            if self._reader.restarts:
                restarts = self._reader.restarts
                self._reject(step, f"a process of the new version has started again, {restarts} times")
            for finding in step.findings:
                if finding.harm:
                    self._reject(step, report.describe(finding))
        self._enough(step, self._answered(step) - before)

    @staticmethod
    def _answered(step: report.Step) -> Array:
        """Return the predictions of champion and candidate since the canary's start."""
        trials = [finding.trials for finding in step.findings if finding.rule == "unsure"]
        return np.array(trials[0] if trials else (0.0, 0.0))

    def _enough(self, step: report.Step, answered: Array) -> None:
        """Apply the rule for too little traffic, to what both versions have answered in this step."""
        champion, candidate = answered
        text = f"{candidate:.0f} predictions of the new version and {champion:.0f} of the current one; "
        text += f"at least {self.options.least} of each are needed"
        if min(champion, candidate) >= self.options.least:
            step.note = f"no harm; {text}"
        elif self.options.too_little == PROMOTE:
            step.note = f"too little traffic ({text}); going on all the same (--too-little promote)"
        else:
            self._reject(step, f"too little traffic: {text}")
        say(f"canary: {step.note}")

    def _reject(self, step: report.Step, reason: str) -> None:
        step.note = reason
        raise CandidateRejectedError(reason)
