"""Plots of few classes, of many, and of names that matplotlib treats in a special way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ml.evaluation import plots

Plot = Callable[..., None]
Draw = Callable[[Plot, int], Figure]


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Return a function that draws a plot of some number of classes; it is wrong in their second half."""
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))

    def draw(plot: Plot, count: int) -> Figure:
        labels = np.repeat(np.arange(count), 8)
        probabilities = np.eye(count)[labels]
        for row in range(8 * (count // 2), len(labels), 8):  # one photo of each class
            probabilities[row] = np.roll(probabilities[row], 1)
        plot(probabilities, labels, tuple(f"_{number}" for number in range(count)), Path("unused"))
        return figures[-1]

    return draw


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_confusion_matrix_of_many_classes_has_colours_only(draw: Draw) -> None:
    few = draw(plots.confusion_matrix, 3)
    assert len(texts(few)) == 9
    assert [label.get_text() for label in few.axes[0].get_xticklabels()] == ["_0", "_1", "_2"]
    many = draw(plots.confusion_matrix, 100)
    assert texts(many) == []
    assert len(many.axes[0].get_xticks()) == len(many.axes[0].get_yticks()) == 0
    assert len(many.axes) == 2  # a colour bar says what the colours mean


def test_the_legend_of_the_roc_plot_names_the_worst_classes(draw: Draw) -> None:
    def named(figure: Figure) -> list[str]:
        return [text.get_text().split(" ")[1] for text in figure.axes[0].get_legend().get_texts()]

    assert sorted(named(draw(plots.roc, 3))) == ["_0", "_1", "_2"]
    many = draw(plots.roc, 100)
    assert len(many.axes[0].lines) == 100
    assert len(named(many)) == 10
    assert all(int(name[1:]) >= 49 for name in named(many))


def test_the_reliability_plot_shows_how_often_answers_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    confidence = np.repeat([0.6, 0.9], 10)
    labels = np.array([0] * 5 + [1] * 5 + [0] * 10)  # half of the unsure answers are right, and all others
    plots.reliability(np.stack([confidence, 1 - confidence], 1), labels, 2, Path("unused"))
    _, model = figures[0].axes[0].lines
    assert np.allclose(model.get_xdata(), [0.6, 0.9])
    assert np.allclose(model.get_ydata(), [0.5, 1])
