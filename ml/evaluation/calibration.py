"""Checks on the test photos whether probabilities agree with the accuracy, and whether the temperature helps.

With few photos, the accuracy differs from even perfect probabilities by chance. Therefore a calibration error
counts only if it is larger than chance would make it.
"""

import dataclasses

import numpy as np

from ml.evaluation.compare import WORSE, compare_losses
from ml.evaluation.metrics import Floats, Labels, bin_numbers, calibration_error, log_losses
from ml.params import Evaluate

_QUANTILE = 0.99
_MIN_PHOTOS = 20
"""With fewer test photos, a worse log loss is an accident."""
WARN_FROM, CANDIDATE_FROM = 0.05, 0.15
"""Calibration errors from which on evaluate warns, and packaging makes the model a candidate."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The calibration of a model on its test photos.

    Attributes:
        ece: expected calibration error.
        ece_by_chance: what it would be at most by chance if the probabilities were right.
        log_loss: with the temperature.
        log_loss_uncalibrated: at temperature 1.
        worse_than_none: whether the temperature clearly makes the log loss larger.
    """

    ece: float
    ece_by_chance: float
    log_loss: float
    log_loss_uncalibrated: float
    worse_than_none: bool

    def warnings(self) -> list[str]:
        """Return what is wrong, in sentences without a full stop."""
        warnings = []
        if self.ece > max(self.ece_by_chance, WARN_FROM):
            warnings.append(
                f"the stated probabilities are far off: the calibration error is {self.ece:.3f}, and chance "
                f"explains at most {self.ece_by_chance:.3f} of it; more validation photos may help"
            )
        if self.worse_than_none:
            warnings.append(
                "the fitted temperature makes the probabilities worse: log loss "
                f"{self.log_loss:.4f} on the test photos, {self.log_loss_uncalibrated:.4f} at temperature 1; "
                "it was fitted to few validation photos, or to photos of another kind"
            )
        return warnings


def check_calibration(
    params: Evaluate, probabilities: Floats, uncalibrated: Floats, labels: Labels
) -> Calibration:
    """Compare probabilities [N, classes] with those at temperature 1 and with the true labels [N]."""
    losses, plain = log_losses(probabilities, labels), log_losses(uncalibrated, labels)
    change = compare_losses(losses, plain, params.resamples, params.confidence, params.min_change)
    return Calibration(
        ece=calibration_error(probabilities, labels, params.calibration_bins),
        ece_by_chance=error_by_chance(params, probabilities),
        log_loss=float(losses.mean()),
        log_loss_uncalibrated=float(plain.mean()),
        worse_than_none=change.verdict == WORSE and len(labels) >= _MIN_PHOTOS,
    )


def error_by_chance(params: Evaluate, probabilities: Floats) -> float:
    """Return the calibration error that right probabilities [N, classes] exceed in one of 100 samples.

    It comes from labels that are drawn from the probabilities (Broecker and Smith 2007, "Increasing the
    reliability of reliability diagrams").
    """
    confidences, bins = probabilities.max(1), params.calibration_bins
    number = bin_numbers(confidences, bins)
    random, errors = np.random.default_rng(0), np.empty(params.resamples)
    for draw in range(params.resamples):
        gaps = (random.random(len(confidences)) < confidences) - confidences
        errors[draw] = np.abs(np.bincount(number, gaps, bins)).sum() / len(confidences)
    return float(np.quantile(errors, _QUANTILE))
