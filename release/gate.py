"""Decide whether models/model.pt may be released.

The ONNX models of models/model.pt and of the latest release classify the same test photos. A photo of the
test split stays in it, unless its class had very few photos, or prepare.test_share was raised: the latest
release may then have learned from some of them, and look better than it is. The gate rejects models/model.pt,
with exit code 1, if packaging marked it as a candidate, if its accuracy is below package.min_accuracy, if its
accuracy or log loss is worse than the confidence interval of the latest release's, if a paired comparison,
which detects smaller differences, finds it worse, or if it does not give its example photos their labels.
With imbalanced classes, all of them weigh the same in these comparisons.
reports/gate.json contains the details.

Environment: GITHUB_REPOSITORY; optional: GITHUB_TOKEN, GITHUB_API_URL. Not needed with --compare-with.
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ml import params as parameters
from ml.cli import say
from ml.data.dataset import FOLDER, Dataset
from ml.data.download import fetch
from ml.evaluation.baselines import has_few_test_photos
from ml.evaluation.compare import WORSE, Counts, Difference, Paired, compare
from ml.evaluation.metrics import Floats, classification_metrics
from ml.evaluation.packaged_model import IncomparableError, answer_test_photos
from ml.model import bundle
from ml.model.errors import PipelineError
from ml.model.onnx_model import OnnxModel
from ml.model.urls import public
from ml.packaging.conditions import minimum_accuracy, score_of
from ml.packaging.examples import wrong_answers
from ml.params import Params
from ml.paths import GATE_REPORT, MODEL
from release import github

EXAMPLE = "python -m release gate"


@dataclasses.dataclass(frozen=True)
class Judged:
    """A model, its `ml.evaluation.metrics.classification_metrics` on the test photos, and what it lacks."""

    name: str
    version: str
    sha256: str
    test: dict[str, float]
    shortfalls: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class GateReport:
    """The gate's decision.

    Attributes:
        passed: whether the model may be released.
        reasons: why the model is rejected; if it passes, what could not be compared.
        test_digest: identifies the test photos, see `Dataset.digest`.
        candidate: the new model.
        current: the latest release; None if there is none, or it can't be compared.
        paired: comparison of the two photo by photo, or None.
    """

    passed: bool
    reasons: list[str]
    test_digest: str
    candidate: Judged
    current: Judged | None
    paired: Paired | None


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--compare-with", metavar="FILE|URL", help="compare with this model instead of the latest release's"
    )
    parser.add_argument(
        "--candidate",
        action="store_true",
        help="pass even if the model is a candidate or below package.min_accuracy",
    )
    parser.add_argument(
        "--allow-incomparable",
        action="store_true",
        help="pass if the latest release can't classify these photos, for example because classes were added",
    )


def main(arguments: argparse.Namespace) -> None:
    """Judge the model and print the decision."""
    params = parameters.load()
    with tempfile.TemporaryDirectory() as folder:
        name, path = _other(arguments.compare_with, Path(folder))
        report = judge(params, name, path, arguments.allow_incomparable, arguments.candidate)
    say(table(report))
    if not report.passed:
        raise PipelineError(f"rejected: {'; '.join(report.reasons)}")
    for reason in report.reasons:
        say(f"note: {reason}")
    say(f"passed: {report.candidate.test['photos']:.0f} test photos; details are in {GATE_REPORT}")


def judge(
    params: Params,
    name: str,
    path: Path | None,
    allow_incomparable: bool = False,
    accept_candidate: bool = False,
) -> GateReport:
    """Judge models/model.pt, and write the report.

    Args:
        params: the minimum accuracy, and how the metrics are computed.
        name: of the model to compare with.
        path: file of that model; None: there is none.
        allow_incomparable: pass if that model can't classify these photos.
        accept_candidate: pass even if the model is a candidate or below the minimum accuracy.

    Raises:
        PipelineError: models/model.pt or the prepared photos are missing or not usable.
    """
    data = Dataset.load(FOLDER)
    if not MODEL.is_file():
        raise PipelineError(f"{MODEL} is missing: run `dvc repro`")
    try:
        candidate, answers = _judged(params, data, str(MODEL), MODEL)
    except IncomparableError as error:
        raise PipelineError(f"{MODEL} can't classify these photos: {error}") from error
    p, labels = params.evaluate, data.labels[data.rows("test")]
    reasons, notes, latest, paired = [], [], None, None
    score = score_of(data)
    if not accept_candidate:
        reasons += _shortfalls(params, candidate, data, score)
    model = bundle.read(MODEL)
    reasons += wrong_answers(model.examples, model.manifest, OnnxModel(model.onnx))
    if path is None:
        notes.append("no model is released yet")
    else:
        try:
            latest, others = _judged(params, data, name, path)
            balanced = score == "balanced_accuracy"
            paired = compare(answers, others, labels, p.resamples, p.confidence, p.min_change, balanced)
            reasons += _worse(candidate.test, latest.test, score) + _worse_paired(paired)
        except IncomparableError as error:
            problem = f"the released model, {name}, can't be compared: {error}"
            (notes if allow_incomparable else reasons).append(problem)
            if not allow_incomparable:
                reasons.append(
                    "to release nevertheless, add --allow-incomparable, "
                    "or start release.yml by hand with that input"
                )
    report = GateReport(not reasons, reasons or notes, data.digest("test"), candidate, latest, paired)
    GATE_REPORT.parent.mkdir(parents=True, exist_ok=True)
    content = dataclasses.asdict(report) | {"table": table(report)}
    GATE_REPORT.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return report


def table(report: GateReport) -> str:
    """Return the metrics of both models as text."""
    names = ("accuracy", "balanced_accuracy", "log_loss")
    titles = [f"{name.replace('_', ' ')} (interval)" for name in names]
    lines = ["".join([f"{'':24}", *(f" {title:28}" for title in titles)]).rstrip()]
    for title, model in (("new", report.candidate), ("released", report.current)):
        if model is not None:
            test = model.test
            cells = [
                f"{test[name]:.4f} ({test[f'{name}_low']:.4f} to {test[f'{name}_high']:.4f})"
                for name in names
            ]
            version = f"{f'{title}: {model.version}':24.24}"
            lines.append("".join([version, *(f" {cell:28}" for cell in cells)]).rstrip())
    if report.paired is not None:
        paired = report.paired
        lines += ["photo by photo:", f"  labels: {paired.accuracy}", f"  log loss: {paired.log_loss}"]
    return "\n".join(lines)


def _other(source: str | None, folder: Path) -> tuple[str, Path | None]:
    """Return name and path of the model to compare with, which is downloaded into the folder if necessary.

    Args:
        source: path or URL; None: the latest release that has a model. The path is None if there is none.
        folder: for the download.
    """
    if source:
        is_url = source.startswith(("http://", "https://"))
        return public(source), fetch(source, folder) if is_url else Path(source)
    repository = github.GitHub.from_environment()
    if (found := repository.latest_model()) is None:
        return "", None
    release, model = found
    repository.download(model, folder / github.MODEL)
    return release.tag_name, folder / github.MODEL


def _judged(params: Params, data: Dataset, name: str, path: Path) -> tuple[Judged, Floats]:
    """Return a model's metrics and probabilities. Raises IncomparableError if there are none."""
    try:
        model = bundle.read(path)
    except OSError as error:
        raise PipelineError(f"{name} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise IncomparableError(str(error)) from error
    p, labels = params.evaluate, data.labels[data.rows("test")]
    answers = answer_test_photos(model, data)["probabilities"]
    test = classification_metrics(
        answers, labels, data.classes, p.calibration_bins, p.resamples, p.confidence
    )
    m = model.manifest
    return Judged(name, m.version, model.sha256, test, m.shortfalls), answers


def _shortfalls(params: Params, candidate: Judged, data: Dataset, score: str) -> list[str]:
    """Return why the new model is not good enough, whatever is released."""
    reasons = [f"it is only a candidate: {shortfall}" for shortfall in candidate.shortfalls]
    value, minimum = candidate.test[score], minimum_accuracy(params.package, data)
    # Packaging judges few test photos by cross-validation.
    if value < minimum and not reasons and not has_few_test_photos(data):
        reasons.append(f"{score.replace('_', ' ')} {value:.4f} is below package.min_accuracy, {minimum:g}")
    return [*reasons, "to release it nevertheless: python -m release gate --candidate"] if reasons else []


def _worse(test: dict[str, float], latest: dict[str, float], score: str) -> list[str]:
    """Return the metrics that are worse than the confidence interval of the latest release's.

    With imbalanced classes, accuracy and log loss say little about rare ones, and do not count.
    """
    worse = []
    if test[score] < latest[f"{score}_low"]:
        worse.append(f"{score.replace('_', ' ')} {test[score]:.4f} is below {latest[f'{score}_low']:.4f}")
    if score == "accuracy" and test["log_loss"] > latest["log_loss_high"]:
        worse.append(f"log loss {test['log_loss']:.4f} is above {latest['log_loss_high']:.4f}")
    return [f"{reason}, the end of the released model's interval" for reason in worse]


def _worse_paired(paired: Paired) -> list[str]:
    """Return the metrics by which the new model is worse photo by photo."""
    results: dict[str, Counts | Difference] = {"labels": paired.accuracy, "log loss": paired.log_loss}
    return [
        f"photo by photo, {name}: {result}" for name, result in results.items() if result.verdict == WORSE
    ]
