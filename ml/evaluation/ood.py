"""OOD detection: fits every method that the network allows, and measures them side by side."""

import io

import numpy as np
import torch
from scipy.special import logsumexp

from ml.evaluation.features import Features
from ml.evaluation.metrics import Comparison, Floats, Interval, Labels, auroc, by_name, wilson
from ml.model.decision import is_unknown
from ml.model.errors import PipelineError, first_line
from ml.model.networks import Network
from ml.model.ood import Concepts, Distance, OodScore, apply_calibration, fit_calibration, load_score
from ml.params import Evaluate
from ml.paths import KNOWN, REPORT


def choose_method(
    params: Evaluate,
    network: Network,
    train: Features,
    labels: Labels,
    val: Features,
    test: Features,
    ood: Features | None,
) -> tuple[str, OodScore, Comparison]:
    """Fit every method that the network allows, and choose one.

    Args:
        params: `ood_method` names the method; `ood_rejected` is the share of `val` that becomes unknown.
        network: provides its pretrained head, if it has one.
        train: photos that the methods learn from.
        labels: true classes of `train`, [N].
        val: photos that set the threshold.
        test: photos to measure on.
        ood: OOD photos to measure on; nothing is learned from them.

    Returns:
        Name and module of the chosen method, and the metrics of all methods. `energy` (Liu et al. 2020),
        which needs no fit, is included for comparison.

    Raises:
        PipelineError: `params.ood_method` names a method that the network does not allow.
    """
    methods: dict[str, OodScore] = {}
    if (head := network.concepts()) is not None:
        methods["concepts"] = Concepts.fit(train.embeddings, head)
    methods["distance"] = Distance.fit(train.embeddings, torch.from_numpy(labels), train.logits.shape[1])
    measured = [test] if ood is None else [test, ood]
    comparison: Comparison = {}
    for name, method in methods.items():
        method.eval().requires_grad_(False)
        method.calibrate(val.embeddings, params.ood_rejected)
        with torch.inference_mode():
            scores = [method(photos.embeddings).double().numpy() for photos in measured]
        comparison[name] = measure_scores(params.confidence, *scores)
    comparison["energy"] = _measure_energy(params, val, measured)
    name = next(iter(methods)) if params.ood_method == "auto" else params.ood_method
    if name not in methods:
        raise PipelineError(
            f"evaluate.ood_method: {name!r} needs a pretrained head, and the network has none"
        )
    return name, methods[name], comparison


def _measure_energy(params: Evaluate, val: Features, measured: list[Features]) -> dict[str, float]:
    def energy(photos: Features) -> Floats:
        """Map logits of any size to a score between 0 and 1."""
        return np.asarray(1 / (1 + np.exp(-logsumexp(photos.logits, axis=1))))

    line = fit_calibration(energy(val), params.ood_rejected)
    return measure_scores(
        params.confidence, *(apply_calibration(energy(photos), *line) for photos in measured)
    )


def measure_scores(confidence: float, test: Floats, ood: Floats | None = None) -> dict[str, float]:
    """Measure the scores of test photos [N] and, if there are any, of OOD photos [M]; see `Comparison`."""

    def share_unknown(scores: Floats) -> Interval:
        return wilson(int(is_unknown(scores).sum()), len(scores), confidence)

    intervals = {"refused": share_unknown(test)}
    if ood is not None:
        intervals["refused_others"] = share_unknown(ood)
        in_distribution = np.arange(len(test) + len(ood)) < len(test)
        intervals["auroc"] = auroc(np.concatenate([test, ood]), in_distribution, confidence)
    return by_name(intervals)


def save_method(name: str, method: OodScore) -> None:
    """Write a fitted method, for packaging."""
    buffer = io.BytesIO()  # torch reports a full disk as an error of its own
    torch.save({"method": name, "state_dict": method.state_dict()}, buffer)
    (REPORT / KNOWN).write_bytes(buffer.getbuffer())


def load_method() -> tuple[str, OodScore]:
    """Read the name and the module that `save_method` wrote.

    Raises:
        PipelineError: the file is missing, or is not such a file.
    """
    path = REPORT / KNOWN
    try:
        content = torch.load(path, weights_only=True)
        method, state = content["method"], content["state_dict"]
        return method, load_score(method, state)
    except Exception as error:  # torch raises many kinds of errors
        raise PipelineError(f"{path} is missing or broken ({first_line(error)}): run `dvc repro`") from error
