"""A labelled batch that the service answered: its metrics, its files and its printed summary."""

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.reporting import rendering

CONFIDENCE, _BINS = 0.95, 15
_DRAWS = 20_000_000
"""Random draws of the bootstrap over all resamples; they take 160 MB."""
_REJECTED = frozenset({400, 413, 415, 422})
"""Statuses with which the service rejects a file that is not a usable photo."""
_LATENCIES = ("p50", "p90", "p99", "max")
_LISTED = 20
"""Photos without a prediction that are listed by name."""


@dataclass(frozen=True)
class Row:
    """One photo and its answer."""

    path: str  # relative to the folder of the batch
    actual: str  # its true label
    status: int  # 0: there was no answer
    attempts: int  # how often the photo was sent
    latency_ms: float  # of the last attempt
    predicted: str = ""  # the label in the answer; empty: no prediction
    probabilities: dict[str, float] | None = None  # by class; None: no prediction
    request_id: str = ""
    version: str = ""  # of the model that answered
    feedback: int = 0  # status of the answer to its true label; 0: none was sent, or none came
    error: str = ""  # why there is no prediction; one line


class Batch:
    """Rows with their metrics.

    Args:
        rows: in the order of the photos.
        classes: of the model, in its order.
    """

    def __init__(self, rows: list[Row], classes: tuple[str, ...]) -> None:
        self.rows, self.classes = rows, classes
        self.answered = [row for row in rows if row.probabilities]
        self.rejected = [row for row in rows if row.status in _REJECTED]
        self.failed = [row for row in rows if not row.probabilities and row.status not in _REJECTED]
        self.unknown = [row for row in self.answered if row.predicted not in classes]
        self.versions = Counter(row.version for row in self.answered)
        scores = [[(row.probabilities or {})[name] for name in classes] for row in self.answered]
        labels = [classes.index(row.actual) for row in self.answered]
        self.probabilities: NDArray[np.float64] = np.array(scores, np.float64).reshape(-1, len(classes))
        self.labels: NDArray[np.int64] = np.array(labels, np.int64)
        self.figures = self._figures() if self.answered else {}

    def _figures(self) -> dict[str, float]:
        from ml.evaluation import metrics  # late: the import takes a second

        count = len(self.answered)
        resamples = max(100, min(2000, _DRAWS // count))
        figures = metrics.classification_metrics(
            self.probabilities, self.labels, self.classes, _BINS, resamples, CONFIDENCE
        )
        correct = round(figures["accuracy"] * count)
        latencies = np.percentile([row.latency_ms for row in self.answered], (50, 90, 99, 100))
        return figures | {
            "accuracy_of_all": correct / len(self.rows),
            "unknown": float(len(self.unknown)),
            "rejected": float(len(self.rejected)),
            "unanswered": float(len(self.failed)),
            **{f"latency_ms_{name}": float(ms) for name, ms in zip(_LATENCIES, latencies, strict=True)},
        }

    def confusion(self) -> list[list[int]]:
        """Return the counts [true class, likeliest class]."""
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(counts, (self.labels, self.probabilities.argmax(1)), 1)
        return [[int(cell) for cell in row] for row in counts]

    def write(self, path: Path, about: dict[str, Any]) -> list[Path]:
        """Write the batch as JSON, and its rows as CSV beside it; return the two paths."""
        content = about | {
            "versions": dict(self.versions),
            "figures": self.figures,
            "confusion_matrix": {"classes": self.classes, "true_by_row": self.confusion()},
            "photos": [vars(row) for row in self.rows],
        }
        plain = [name for name in Row.__dataclass_fields__ if name != "probabilities"]
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow([*plain, *(f"p_{name}" for name in self.classes)])
        for row in self.rows:
            scores = row.probabilities or {}
            values = [getattr(row, name) for name in plain]
            writer.writerow([*values, *(scores.get(name, "") for name in self.classes)])
        texts = {path: json.dumps(content, indent=1) + "\n", path.with_suffix(".csv"): table.getvalue()}
        for file, text in texts.items():
            rendering.write(text, file)
        return list(texts)

    def print_summary(self) -> None:
        """Print the metrics, and the photos without a prediction."""
        without = {"rejected": self.rejected, "without an answer": self.failed}
        counts = ", ".join(f"{len(rows)} {title}" for title, rows in without.items() if rows)
        print(f"{len(self.answered)} of {len(self.rows)} photos answered{counts and '; '}{counts}")
        if self.figures:
            self._print_figures()
        for title, rows in without.items():
            for row in rows[:_LISTED]:
                print(f"{title}: {row.path}: {row.error}")
            if len(rows) > _LISTED:
                print(f"{title}: and {len(rows) - _LISTED} more")

    def _print_figures(self) -> None:
        f = self.figures
        for name in ("accuracy", "log_loss"):
            interval = f"{f[f'{name}_low']:.4f} to {f[f'{name}_high']:.4f}"
            title = name.replace("_", " ")
            print(f"{title} {f[name]:.4f} ({100 * CONFIDENCE:.0f} % interval {interval})")
        if len(self.answered) < len(self.rows):
            print(f"accuracy {f['accuracy_of_all']:.4f} if every photo without a prediction counts as wrong")
        if self.unknown:
            print(f"{len(self.unknown)} answered as unknown; the metrics are those of the likeliest class")
        wide = max(8, *map(len, self.classes))
        print("confusion matrix (rows: true class, columns: predicted class):")
        print(" " * wide, *(f"{name:>{wide}}" for name in self.classes))
        for name, counts in zip(self.classes, self.confusion(), strict=True):
            print(f"{name:>{wide}}", *(f"{count:{wide}}" for count in counts))
        figures = (f"{name} {f[f'latency_ms_{name}']:.0f} ms" for name in _LATENCIES)
        print(f"latency: {', '.join(figures)}")
