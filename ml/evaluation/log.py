"""Logs what `evaluate` measured to the MLflow run of the training."""

import mlflow

from ml.evaluation.result import Evaluation
from ml.params import Tracking
from ml.paths import REPORT
from ml.tracking.store import log_folder, log_metrics, tracked

EVALUATED = "evaluated"
"""Tag of a run that this module has logged to."""


def log_evaluation(params: Tracking, run_id: str, evaluation: Evaluation) -> None:
    """Log metrics, predictions and plots.

    Raises:
        PipelineError: MLflow cannot be used.
    """
    with tracked(params, run_id):
        log_metrics(evaluation.test, "test_")
        mlflow.log_metric("temperature", evaluation.temperature)
        for name, metrics in evaluation.baselines.items():
            log_metrics(metrics, f"{name}_")
        log_metrics(evaluation.cross_validation, "cross_validation_")
        for method, metrics in evaluation.known.items():
            log_metrics(metrics, f"ood_{method}_")
        log_folder(REPORT, REPORT.name)
        mlflow.set_tag(EVALUATED, "true")
