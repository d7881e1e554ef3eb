"""The plots of an evaluation."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import ConfusionMatrixDisplay, auc, roc_curve

from ml.data.dataset import Dataset
from ml.evaluation.metrics import Floats, Labels

_NAME_LENGTH = 24  # characters of a class's name that fit beside a plot
_MATRIX_CLASSES = 25  # whose names and numbers can be read in a confusion matrix
_LEGEND_CLASSES = 10  # that fit into a legend; matplotlib has as many colours
mpl.use("Agg")
mpl.rcParams["text.parse_math"] = False  # names of classes may contain dollar signs


@contextmanager
def _plot(path: Path, title: str) -> Iterator[Axes]:
    """Write a figure with one plot, which the body of the `with` statement draws."""
    figure = Figure(figsize=(5.0, 4.2), layout="constrained")
    axes = figure.subplots()
    yield axes
    axes.set_title(title)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings():  # names of classes may have characters that the font lacks
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(path)


def _shown(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"


def confusion_matrix(
    probabilities: Floats,
    labels: Labels,
    classes: tuple[str, ...],
    path: Path,
    title: str = "Confusion matrix, test split",
) -> None:
    """Draw the number of photos per true and predicted class.

    Of many classes, only colours are drawn: the share of the photos of each true class.
    """
    predicted, many = probabilities.argmax(1), len(classes) > _MATRIX_CLASSES
    with _plot(path, title) as axes:
        ConfusionMatrixDisplay.from_predictions(
            labels,
            predicted,
            labels=range(len(classes)),
            display_labels=[*map(_shown, classes)],
            ax=axes,
            include_values=not many,
            normalize="true" if many else None,
            colorbar=many,
        )
        if many:
            axes.set(xticks=[], yticks=[])


def roc(probabilities: Floats, labels: Labels, classes: tuple[str, ...], path: Path) -> None:
    """Draw one curve per class, each against the rest; the legend names those with the smallest area."""
    curves = [roc_curve(labels == number, probabilities[:, number])[:2] for number in range(len(classes))]
    areas = [auc(*curve) for curve in curves]
    order = np.argsort(areas, kind="stable")
    with _plot(path, "ROC, test split") as axes:
        for number in order[_LEGEND_CLASSES:]:
            axes.plot(*curves[number], color="lightgrey")
        for number in order[:_LEGEND_CLASSES]:  # matplotlib hides a label that starts with "_", as a name may
            axes.plot(*curves[number], label=f"{areas[number]:.4f} {_shown(classes[number])}")
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        axes.legend(loc="lower right", title="area" if len(classes) <= _LEGEND_CLASSES else "smallest areas")


def reliability(probabilities: Floats, labels: Labels, bins: int, path: Path) -> None:
    """Draw the accuracy of answers by their confidence, in bins with equally many photos."""
    hits = probabilities.argmax(1) == labels
    accuracy, confidence = calibration_curve(hits, probabilities.max(1), n_bins=bins, strategy="quantile")
    low = max(0.0, min(accuracy.min(), confidence.min()) - 0.05)
    with _plot(path, "Reliability, test split") as axes:
        axes.plot([0, 1], [0, 1], "--", color="grey", label="calibrated")
        axes.plot(confidence, accuracy, "o-", label="model")
        axes.set(xlim=(low, 1.005), ylim=(low, 1.005), xlabel="confidence", ylabel="accuracy")
        axes.legend()


def learning_curves(history: list[dict[str, float]], path: Path) -> None:
    """Draw log loss and accuracy over the epochs."""
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    epochs = [entry["epoch"] for entry in history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split in ("train", "val"):
            axes.plot(epochs, [entry[f"{split}_{name}"] for entry in history], "o-", label=split)
        axes.set(xlabel="epoch", title=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    _save(figure, path)


def worst_mistakes(probabilities: Floats, rows: Labels, data: Dataset, count: int, path: Path) -> None:
    """Show the photos with the lowest probability of their true class, with the answers to them.

    `probabilities` [N, classes] are those of the photos in `rows` [N] of the data set.
    """
    labels = data.labels[rows]
    order = np.argsort(probabilities[np.arange(len(labels)), labels])[:count]
    columns = 4
    lines = -(-len(order) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.8 * lines), layout="constrained")
    for axes in figure.subplots(lines, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, number in zip(figure.axes, order, strict=False):
        true, answer = labels[number], int(probabilities[number].argmax())
        axes.imshow(data.images[rows[number]])
        shown = f"{_shown(data.classes[answer])} {probabilities[number, answer]:.0%}"
        title = f"{_shown(data.classes[true])}, answer {shown}"
        axes.set_title(title, fontsize=9, color="black" if answer == true else "firebrick")
    _save(figure, path)
