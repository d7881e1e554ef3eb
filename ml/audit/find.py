"""Finds the photos that a person should look at."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit, softmax
from torch import Tensor

from ml.audit.contradictions import Contradiction
from ml.audit.suspects import Kind, Suspect
from ml.data.dataset import Dataset
from ml.evaluation.features import extract_features
from ml.evaluation.metrics import Floats
from ml.model.errors import PipelineError
from ml.model.networks import Network, build, network_class
from ml.model.ood import Concepts, Distance, OodScore
from ml.training.head import fit_head

FOLDS = 5
OUTLIERS = 0.02
"""Share of the photos that are shown because they look least like photos of the classes ..."""
MIN_OUTLIERS = 10
"""... and their smallest number."""
DEFAULT_BODY = "efficientnet_lite0"
"""The body whose features are used if the architecture to train has no pretrained weights."""

_EPSILON = 1e-6  # from 0 and 1
_OOD_PHOTOS = 2000  # photos that the OOD score is fitted to
_SHOWN_CLASSES = 9  # as many as there are keys for them


def body(arch: str, classes: int) -> Network:
    """Return the network whose frozen features are used: the architecture's, if it has pretrained weights."""
    network = build(arch if network_class(arch).pretrained else DEFAULT_BODY, classes)
    network.load_pretrained()
    network.eval().to(memory_format=torch.channels_last)
    return network


def find(
    data: Dataset,
    network: Network,
    contradictions: list[Contradiction],
    decided: frozenset[str],
    most: int,
) -> list[Suspect]:
    """Find the suspects among the prepared photos.

    Args:
        data: the prepared photos, of all splits.
        network: computes the features; its head is overwritten.
        contradictions: photos with several labels, of which `prepare` kept none, or one of several near
            duplicates.
        decided: SHA-256 of the photos about which a person has decided; they are not shown again.
        most: the largest number of suspects of each kind.

    Raises:
        PipelineError: a class has too few photos.
    """
    features = extract_features(network, data.images).embeddings
    probabilities, known = predict_out_of_sample(network, features, data.labels)
    suspects = _contradicting(network, contradictions, data, probabilities)
    hidden = decided.union(*(suspect.hashes for suspect in suspects))
    issues, disagreements = label_issues(data.labels, probabilities)
    wrong = set(issues)
    unlike = [row for row in outliers(data.labels, probabilities, known) if row not in wrong]
    rows_by_kind: tuple[tuple[Kind, list[int]], ...] = (
        ("label", issues),
        ("outlier", unlike[: max(MIN_OUTLIERS, round(OUTLIERS * len(known)))]),
        ("disagreement", disagreements),
    )
    for kind, rows in rows_by_kind:
        shown = [row for row in rows if data.hashes[row] not in hidden][:most]
        suspects += [_suspect(kind, data, row, probabilities[row]) for row in shown]
        hidden |= {data.hashes[row] for row in shown}
    return suspects


def predict_out_of_sample(
    network: Network, features: Tensor, labels: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Judge each photo by cross-validation, with a head and an OOD score that did not learn from it.

    Args:
        network: its head is fitted to features once per fold.
        features: [N, D].
        labels: [N].

    Returns:
        Probabilities [N, classes], and OOD scores [N], of which only the order means something.

    Raises:
        PipelineError: a class has fewer than two photos.
    """
    from sklearn.model_selection import StratifiedKFold

    fewest = int(np.bincount(labels, minlength=network.head.out_features).min())
    if fewest < 2:
        raise PipelineError("the label audit needs at least two photos of each class: add photos")
    folds = StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=0)
    probabilities = np.zeros((len(labels), network.head.out_features))
    known = np.zeros(len(labels))
    for learned, judged in folds.split(labels, labels):
        fit_head(network.head, features[learned], torch.from_numpy(labels[learned]))
        score = _ood_score(network, features[learned], labels[learned])
        with torch.inference_mode():
            probabilities[judged] = network.head(features[judged]).double().softmax(1).numpy()
            known[judged] = score.raw(features[judged]).double().numpy()
    return probabilities, known


def label_issues(labels: NDArray[np.int64], probabilities: Floats) -> tuple[list[int], list[int]]:
    """Find the photos whose label is wrong according to the predictions, the surest first.

    Args:
        labels: [N].
        probabilities: out of sample, [N, classes].

    Returns:
        The rows whose label is wrong according to confident learning (Northcutt et al. 2021), and the rows of
        other photos for which another class is predicted.
    """
    from cleanlab.filter import find_label_issues

    wrong, disagreeing = (
        find_label_issues(
            labels, probabilities, filter_by=method, return_indices_ranked_by="normalized_margin", n_jobs=1
        ).tolist()
        for method in ("prune_by_noise_rate", "predicted_neq_given")
    )
    taken = set(wrong)
    return wrong, [row for row in disagreeing if row not in taken]


def outliers(labels: NDArray[np.int64], probabilities: Floats, known: Floats) -> list[int]:
    """Return all rows, first those that look least like photos of the classes.

    Many good photos have a low OOD score, and for many the prediction is unsure; photos of none of the
    classes tend to have both. So the log odds of both are added, the OOD score's twice.

    Args:
        labels: [N].
        probabilities: out of sample, [N, classes].
        known: OOD scores, [N].
    """
    own = probabilities[np.arange(len(labels)), labels]
    return [int(row) for row in np.argsort(2 * _standard(known) + _standard(own), kind="stable")]


def _standard(shares: Floats) -> Floats:
    """Return the log odds of shares, with mean 0 and standard deviation 1."""
    odds = logit(np.clip(shares, _EPSILON, 1 - _EPSILON))
    return np.asarray((odds - odds.mean()) / max(float(odds.std()), _EPSILON))


def _ood_score(network: Network, features: Tensor, labels: NDArray[np.int64]) -> OodScore:
    """Fit the OOD score to photos, to about as many of each class if there are many."""
    classes = network.head.out_features
    mixed = np.random.default_rng(0).permutation(len(labels))
    sample = np.concatenate(
        [mixed[labels[mixed] == number][: -(-_OOD_PHOTOS // classes)] for number in range(classes)]
    )
    if (head := network.concepts()) is not None:
        return Concepts.fit(features[sample], head)
    return Distance.fit(features[sample], torch.from_numpy(labels[sample]), classes)


def _contradicting(
    network: Network, contradictions: list[Contradiction], data: Dataset, probabilities: Floats
) -> list[Suspect]:
    """Return the contradictions as suspects, judged by a head that did not learn from them.

    If `prepare` kept one of the photos, its out-of-sample probabilities [N, classes] are shown. If it kept
    none, no head has learned from them, and the last one judges them.
    """
    if not contradictions:
        return []
    rows = {sha256: row for row, sha256 in enumerate(data.hashes)}
    logits = extract_features(network, np.stack([each.pixels for each in contradictions])).logits
    suspects = []
    for each, predicted in zip(contradictions, softmax(logits, 1), strict=True):
        row = next((rows[sha256] for sha256 in each.hashes if sha256 in rows), None)
        shown = _shown(predicted if row is None else probabilities[row], data.classes, each.labels)
        suspects.append(Suspect("contradiction", each.paths, each.hashes, each.labels, shown))
    return suspects


def _suspect(kind: Kind, data: Dataset, row: int, probabilities: Floats) -> Suspect:
    label = data.classes[data.labels[row]]
    return Suspect(
        kind, [data.paths[row]], [data.hashes[row]], [label], _shown(probabilities, data.classes, [label])
    )


def _shown(probabilities: Floats, classes: tuple[str, ...], labels: list[str]) -> dict[str, float]:
    """Return the probabilities of the likeliest classes and of the present labels, likeliest first."""
    order = np.argsort(-probabilities, kind="stable")
    shown = [*order[:_SHOWN_CLASSES], *(row for row in order[_SHOWN_CLASSES:] if classes[row] in labels)]
    return {classes[row]: round(float(probabilities[row]), 4) for row in shown}
