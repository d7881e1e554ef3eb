"""The release gate: `models/model.pt` is good enough, and not worse than the model that is released now.

`python -m ml.gate`, with GITHUB_REPOSITORY (and GITHUB_TOKEN for a private one) set. Both models' twins
answer the same test photos, which no training has seen: a photo's split depends on nothing but its content.
The new one's accuracy must not be below the interval of the released one's, nor its log loss above it; and
photo by photo it must not be clearly worse (`ml.evaluation.compare`), which shows smaller differences than
intervals do.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from ml import params as parameters
from ml.bundle import Bundle
from ml.cli import exit_cleanly, say
from ml.dataset import FOLDER, Dataset
from ml.errors import PipelineError
from ml.evaluation.compare import Counts, Difference, Paired, compare
from ml.evaluation.verdicts import WORSE
from ml.ingest import RAW
from ml.metrics import Floats, figures
from ml.params import Params
from ml.paths import GATE_REPORT, MODEL
from ml.publishing import current as released
from ml.publishing.current import Current, IncomparableError


@dataclasses.dataclass(frozen=True)
class Judged:
    """A model, and figures of its answers to the test photos, see `ml.metrics.figures`."""

    name: str
    version: str
    sha256: str
    test: dict[str, float]


@dataclasses.dataclass(frozen=True)
class GateReport:
    """What the gate found.

    Attributes:
        passed: whether the model may be released.
        reasons: why not; or, where it passes, what could not be compared.
        test_digest: which photos, see `Dataset.digest`.
        candidate: the new model.
        current: the released one, None where none could be compared.
        paired: the two photo by photo, likewise.
    """

    passed: bool
    reasons: list[str]
    test_digest: str
    candidate: Judged
    current: Judged | None
    paired: Paired | None


def run(
    params: Params,
    current: Current | None,
    allow_incomparable: bool = False,
    model: Path = MODEL,
    data_folder: Path = FOLDER,
    raw: Path = RAW,
    report: Path = GATE_REPORT,
) -> GateReport:
    """Judge a model, and write what was found to `report`.

    Args:
        params: `package.min_accuracy`, and how the figures are made.
        current: what is released; None: nothing.
        allow_incomparable: pass where the released model can't answer these photos.
        model: the one to judge.
        data_folder: the prepared photos.
        raw: the photos as they came, for a released model that wants them in another size.
        report: JSON.

    Raises:
        PipelineError: the model, or the photos, can't be used at all.
    """
    data = Dataset.load(data_folder)
    try:
        candidate, answers = _judge(params, data, raw, str(model), _read(model))
    except IncomparableError as error:
        raise PipelineError(f"{model} can't answer these photos: {error}") from error
    p, labels = params.evaluate, data.labels[data.rows("test")]
    reasons, notes, held, paired = [], [], None, None
    if candidate.test["accuracy"] < params.package.min_accuracy:
        found = f"accuracy {candidate.test['accuracy']:.4f}"
        reasons.append(f"{found} is under package.min_accuracy, {params.package.min_accuracy}")
    if current is None:
        notes.append("no model is released yet")
    else:
        try:
            held, theirs = _judge(params, data, raw, current.name, released.read(current))
            paired = compare(answers, theirs, labels, p.resamples, p.confidence, p.min_change)
            reasons += worse(candidate.test, held.test) + clearly_worse(paired)
        except IncomparableError as error:
            problem = f"the released model, {current.name}, can't be compared: {error}"
            (notes if allow_incomparable else reasons).append(problem)
            if not allow_incomparable:
                reasons.append("if it shall be released nevertheless: --allow-incomparable")
    result = GateReport(not reasons, reasons or notes, data.digest("test"), candidate, held, paired)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(dataclasses.asdict(result), indent=2) + "\n", "utf-8")
    return result


def worse(test: dict[str, float], held: dict[str, float]) -> list[str]:
    """Return in what figures are worse than others, beyond the interval of those."""
    found = []
    if test["accuracy"] < held["accuracy_low"]:
        found.append(f"accuracy {test['accuracy']:.4f} is below {held['accuracy_low']:.4f}")
    if test["log_loss"] > held["log_loss_high"]:
        found.append(f"log loss {test['log_loss']:.4f} is above {held['log_loss_high']:.4f}")
    return [f"{reason}, the end of the released model's interval" for reason in found]


def clearly_worse(paired: Paired) -> list[str]:
    """Return in what the new model is clearly worse photo by photo, where it is the candidate."""
    found: dict[str, Counts | Difference] = {"labels": paired.accuracy, "log loss": paired.log_loss}
    return [f"photo by photo, {name}: {figure}" for name, figure in found.items() if figure.verdict == WORSE]


def _read(model: Path) -> Bundle:
    if not model.is_file():
        raise PipelineError(f"{model} is missing: run `dvc repro`")
    return released.read(released.given(str(model)))


def _judge(params: Params, data: Dataset, raw: Path, name: str, model: Bundle) -> tuple[Judged, Floats]:
    p, labels = params.evaluate, data.labels[data.rows("test")]
    answers = released.probabilities(model, data, raw)
    found = figures(answers, labels, data.classes, p.calibration_bins, p.resamples, p.confidence)
    return Judged(name, model.manifest.version, model.sha256, found), answers


def table(result: GateReport) -> str:
    """Return the figures of both models, for people."""
    lines = [f"{'':24} {'accuracy (interval)':28} {'log loss (interval)':28}"]
    for title, judged in (("new", result.candidate), ("released", result.current)):
        if judged is None:
            continue
        cells = [
            f"{judged.test[name]:.4f} ({judged.test[f'{name}_low']:.4f} to {judged.test[f'{name}_high']:.4f})"
            for name in ("accuracy", "log_loss")
        ]
        lines.append(f"{f'{title}: {judged.version}':24.24} {cells[0]:28} {cells[1]:28}".rstrip())
    if result.paired is not None:
        lines += [
            "photo by photo:",
            f"  labels: {result.paired.accuracy}",
            f"  log loss: {result.paired.log_loss}",
        ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge, as the command line says; exit code 1 where the model may not be released."""
    parser = argparse.ArgumentParser(prog="ml.gate", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "--current", metavar="FILE|URL", help="compare with this instead of the latest release"
    )
    parser.add_argument(
        "--allow-incomparable",
        action="store_true",
        help="pass although the released model can't answer these photos, as when classes are added",
    )
    options = parser.parse_args(arguments)
    params = parameters.load()
    current = released.given(options.current) if options.current else released.released()
    result = run(params, current, options.allow_incomparable)
    say(table(result))
    if not result.passed:
        raise PipelineError(f"refused: {'; '.join(result.reasons)}")
    for reason in result.reasons:
        say(f"note: {reason}")
    say(f"passed: {result.candidate.test['photos']:.0f} test photos; {GATE_REPORT} holds the figures")


if __name__ == "__main__":
    with exit_cleanly():
        main()
