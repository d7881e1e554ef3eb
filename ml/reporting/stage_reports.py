"""The results of the pipeline's stages, read from their files into the values that the templates show."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from ml import paths
from ml.data.collected import periods_of
from ml.data.licences import collections_of
from ml.model.errors import PipelineError
from ml.model.urls import public_name

_SPLITS = Path("data/processed/splits.json")
_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log loss",
    "roc_auc": "ROC AUC",
    "ece": "calibration error",
}
BASELINES = {"probe": "linear probe on the pretrained features", "majority": "always the most frequent class"}
"""Titles of the simpler methods, by name."""


def metric_titles(classes: Iterable[str]) -> dict[str, str]:
    """Return titles by name: of the metrics on all test photos, then of precision and recall per class."""
    return _TITLES | {
        f"{kind}_{name}": f"{kind} {name:.60}" for name in classes for kind in ("precision", "recall")
    }


def classes_of(values: Mapping[str, float]) -> list[str]:
    """Return the classes whose recall is among these metrics."""

    def is_end(name: str) -> bool:  # a class called cat_low beside cat has an interval of its own
        stem = re.sub("_(low|high)$", "", name)
        return stem != name and stem in values and f"{name}_low" not in values

    return [
        name.removeprefix("recall_") for name in values if name.startswith("recall_") and not is_end(name)
    ]


def ood_methods(
    onnx_model: Mapping[str, float], torch: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """Return the method that is served, if it was measured, and those that `evaluate` compared.

    Each has its `name`, and metrics as in `ml.evaluation.metrics.Comparison`.
    """
    served = [{"name": "ONNX model, served", **onnx_model}] if onnx_model else []
    return served + [{"name": f"torch, {name}", **values} for name, values in torch.items()]


@dataclass(frozen=True)
class Reports:
    """The results of all stages; a value is empty if its stage has not run.

    Attributes:
        params: content of params.yaml.
        source: of the photos, as params.yaml names it; `public_source` has no secrets.
        image_size: height and width of the prepared photos, in pixels.
        kept: number of photos, by class and split.
        dropped: number of photos that `prepare` dropped, by reason.
        own_splits: splits that the source has itself.
        dropped_photos: `path`, `reason` and `detail` of each.
        collections: number of photos, by collection and licence.
        collected: number of photos that the service collected, by month.
        epochs: number, losses and accuracies of each.
        recipe: with which the network was trained, as in params.yaml except for what was
            decided for these photos and the time.
        trained_photos: number of training photos that were used; fewer than all if `train.minutes` is short.
        averages: weight averages that were tried after the epochs, the one that is used first.
        torch: metrics of the torch network on the test photos.
        baselines: metrics of simpler methods on the test photos, by name as in `BASELINES`.
        cross_validation: metrics of the cross-validated probe; empty if the test split is large enough.
        warnings: of `evaluate`, in sentences without a full stop.
        temperature: by which logits are divided, see `ml.evaluation.metrics.fit_temperature`.
        torch_ood: what `evaluate` measured of each method of OOD detection.
        slices: by kind, such as `brightness`: `name`, `photos`, `accuracy`, its interval, and `confidence`.
        stability_photos: number of test photos that were perturbed.
        perturbations: `name`, `share` with its interval, `limit`, `over` and `refused`, see
            `ml.packaging.stability.Flips`.
        drawn: the drawn test images and the answers of the ONNX model, see `ml.packaging.drawn`.
        packaged: content of package.json.
        promotion: the decision whether the packaged model becomes the champion.
    """

    params: Mapping[str, Any]
    source: str
    image_size: int
    kept: dict[str, dict[str, int]]
    dropped: dict[str, int]
    own_splits: list[str]
    dropped_photos: list[dict[str, str]]
    collections: dict[str, int]
    collected: dict[str, int]
    epochs: list[dict[str, float]]
    recipe: dict[str, Any]
    trained_photos: int
    averages: list[dict[str, Any]]
    torch: dict[str, float]
    baselines: dict[str, dict[str, float]]
    cross_validation: dict[str, float]
    warnings: list[str]
    temperature: float
    torch_ood: dict[str, dict[str, float]]
    slices: dict[str, list[dict[str, Any]]]
    stability_photos: int
    perturbations: list[dict[str, Any]]
    drawn: list[dict[str, Any]]
    packaged: dict[str, Any]
    promotion: dict[str, Any]

    def param(self, section: str, name: str, default: Any = None) -> Any:
        """Return a value of params.yaml."""
        return self.params.get(section, {}).get(name, default)

    @property
    def public_source(self) -> str:
        """The source of the photos without secrets."""
        return public_name(self.source)

    @property
    def weakest_perturbation(self) -> dict[str, Any] | None:
        """The perturbation that flips the most labels."""
        return max(self.perturbations, key=lambda one: one["share"], default=None)

    @property
    def weakest_slice(self) -> dict[str, Any] | None:
        """The slice of the lowest accuracy, with its `kind`."""
        every = [{"kind": kind, **one} for kind, slices in self.slices.items() for one in slices]
        return min(every, key=lambda one: one["accuracy"], default=None)


@contextmanager
def unexpected_content() -> Iterator[None]:
    """Turn an error of code or of a template that reads the values of a report into a PipelineError."""
    try:
        yield
    except (UndefinedError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"a report was written by another version ({error!r:.80})"
        raise PipelineError(f"{reason}: run `dvc repro`") from error


def load(params: Mapping[str, Any]) -> Reports:
    """Read the reports that exist; `params` is the content of params.yaml.

    Raises:
        PipelineError: a file is broken, or another version of this project wrote it.
    """
    with unexpected_content():
        source = str(params.get("ingest", {}).get("source", ""))
        prepared = _json(paths.PREPARE_REPORT / "report.json", {})
        history = _json(paths.HISTORY, {})
        measured = _json(paths.REPORT / paths.METRICS, {})
        stability = _json(paths.PACKAGE_REPORT / paths.STABILITY, {})
        slices = _json(paths.REPORT / paths.SLICES, {})
        package, promotion = _json(paths.PACKAGE_REPORT / paths.PACKAGED, {}), _json(paths.PROMOTION, {})
        index = _json(_SPLITS, {})
        photos = [photo["path"] for photo in index.get("photos", [])]
        return Reports(
            params=params,
            source=source,
            image_size=index.get("image_size", 0),
            kept=prepared.get("kept", {}),
            dropped=prepared.get("dropped", {}),
            own_splits=prepared.get("own_splits", []),
            dropped_photos=_csv(paths.PREPARE_REPORT / paths.DROPPED),
            collections=collections_of(photos, source),
            collected=periods_of(photos),
            epochs=history.get("history", []),
            recipe=history.get("recipe", {}),
            trained_photos=history.get("photos", 0),
            averages=history.get("choices", []),
            torch=measured.get("test", {}),
            baselines=measured.get("baselines", {}),
            cross_validation=measured.get("cross_validation", {}),
            warnings=measured.get("warnings", []),
            temperature=float(measured.get("temperature", 1.0)),
            torch_ood=measured.get("known", {}),
            slices={kind: [_slice(*one) for one in some.items()] for kind, some in slices.items() if some},
            stability_photos=stability.get("photos", 0),
            perturbations=[_perturbation(*one) for one in stability.get("changes", {}).items()],
            drawn=_json(paths.PACKAGE_REPORT / paths.DRAWN_IMAGES, []),
            packaged=package,
            promotion=promotion if promotion.get("sha256") == package.get("sha256") else {},
        )


def _slice(name: str, values: Mapping[str, float]) -> dict[str, Any]:
    keys = ("photos", "accuracy", "accuracy_low", "accuracy_high", "confidence")
    return {"name": name} | {key: values[key] for key in keys}


def _perturbation(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    share = {"share": values["share"], "share_low": values["low"], "share_high": values["high"]}
    return {"name": name} | share | {key: values[key] for key in ("limit", "over", "refused")}


def _json(path: Path, missing: Any) -> Any:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return missing
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path} is broken ({error}): run `dvc repro`") from error
    if type(content) is not type(missing):
        raise PipelineError(f"{path} is broken (it holds no {type(missing).__name__}): run `dvc repro`")
    return content


def _csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [dict(row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise PipelineError(f"{path} is broken ({error}): run `dvc repro`") from error
