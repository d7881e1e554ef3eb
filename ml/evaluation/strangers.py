"""Photos of none of the classes: the ways to tell them, fitted and measured side by side."""

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from ml.errors import PipelineError
from ml.evaluation.features import Seen
from ml.known import THRESHOLD, Concepts, Distance, Known, line_for, moved
from ml.metrics import Floats, Interval, auroc, wilson
from ml.networks import Network
from ml.params import Evaluate

Comparison = dict[str, dict[str, float]]
"""Method to figures: `refused`, the share of test photos of the classes, and where photos of something else
are given, `refused_others` and `auroc`; each with the ends of its interval, `..._low` and `..._high`."""


def choose(
    params: Evaluate, network: Network, train: Seen, val: Seen, test: Seen, others: Seen | None
) -> tuple[str, Known, Comparison]:
    """Fit every method that the network allows.

    Args:
        params: `known` names the method, `known_refused` is the share of `val` that it is to refuse.
        network: its pretrained head, if it came with one.
        train: photos to learn from.
        val: photos to set the threshold on.
        test: photos to measure on.
        others: photos of something else, to measure on; nothing is learnt from them.

    Returns:
        name and module of the method chosen, and all methods' figures; `energy` (Liu et al. 2020), which
        needs no fit, is there to compare.

    Raises:
        PipelineError: `known` asks for what the network doesn't allow.
    """
    methods: dict[str, Known] = {}
    if (head := network.concepts()) is not None:
        methods["concepts"] = Concepts.fit(train.features, head)
    methods["distance"] = Distance.fit(train.features, torch.from_numpy(train.labels), train.logits.shape[1])
    compared: Comparison = {}
    for name, known in methods.items():
        known.eval().requires_grad_(False)
        known.calibrate(val.features, params.known_refused)
        scores = [score(known, seen.features) for seen in (test, *_given(others))]
        compared[name] = measure(params.confidence, *scores)
    # Logits of any size to a score between 0 and 1.
    energies = [1 / (1 + np.exp(-logsumexp(seen.logits, axis=1))) for seen in (val, test, *_given(others))]
    line = line_for(energies[0], params.known_refused)
    compared["energy"] = measure(params.confidence, *(moved(energy, *line) for energy in energies[1:]))
    name = next(iter(methods)) if params.known == "auto" else params.known
    if name not in methods:
        raise PipelineError(f"evaluate.known: {name!r} needs a pretrained head, and there is none")
    return name, methods[name], compared


def score(known: Known, features: Tensor) -> Floats:
    """Scores [N] of features [N, D]."""
    with torch.inference_mode():
        scores: Floats = known(features).double().numpy()
    return scores


def measure(confidence: float, real: Floats, others: Floats | None = None) -> dict[str, float]:
    """Figures of a score on photos of the classes [N] and of something else [M], with their intervals."""
    intervals = {"refused": _refused(real, confidence)}
    if others is not None:
        intervals["refused_others"] = _refused(others, confidence)
        truth = np.arange(len(real) + len(others)) < len(real)
        intervals["auroc"] = auroc(np.concatenate([real, others]), truth, confidence)
    found: dict[str, float] = {}
    for name, interval in intervals.items():
        found |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return found


def _refused(scores: Floats, confidence: float) -> Interval:
    return wilson(int((scores < THRESHOLD).sum()), len(scores), confidence)


def _given(others: Seen | None) -> list[Seen]:
    return [] if others is None else [others]
