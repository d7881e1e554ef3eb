"""A labelled batch that the service answered: its metrics, its files and its printed summary."""

import csv
import json
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE, _BINS = 0.95, 15
_DRAWS = 20_000_000
"""Random draws of the bootstrap over all resamples; they take 160 MB."""
_REJECTED = frozenset({400, 413, 415, 422})
"""Statuses with which the service rejects a file that is not a usable photo."""
_LISTED = 20
"""Photos without a prediction that are listed by name."""


@dataclass(frozen=True)
class Row:
    """One photo and its answer.

    Attributes:
        path: of the file, relative to the folder of the batch.
        actual: its true label.
        status: of the answer; 0: there was none.
        attempts: how often the photo was sent.
        latency_ms: of the last attempt.
        predicted: the label in the answer; empty: no prediction.
        probabilities: by class; None: no prediction.
        request_id: of the answer.
        version: of the model that answered.
        feedback: status of the answer to its true label; 0: none was sent, or none came.
        error: why there is no prediction; one line.
    """

    path: str
    actual: str
    status: int
    attempts: int
    latency_ms: float
    predicted: str = ""
    probabilities: dict[str, float] | None = None
    request_id: str = ""
    version: str = ""
    feedback: int = 0
    error: str = ""


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
        self.probabilities: NDArray[np.float64] = np.array(scores, np.float64).reshape(-1, len(classes))
        self.labels: NDArray[np.int64] = np.array(
            [classes.index(row.actual) for row in self.answered], np.int64
        )
        self.figures = self._figures() if self.answered else {}

    def _figures(self) -> dict[str, float]:
        from ml.evaluation import metrics  # late: the import takes a second

        count = len(self.answered)
        resamples = max(100, min(2000, _DRAWS // count))
        figures = metrics.classification_metrics(
            self.probabilities, self.labels, self.classes, _BINS, resamples, CONFIDENCE
        )
        correct = round(figures["accuracy"] * count)
        latencies = [row.latency_ms for row in self.answered]
        cuts = statistics.quantiles(latencies, n=100, method="inclusive") if count > 1 else latencies * 99
        return figures | {
            "accuracy_of_all": correct / len(self.rows),
            "unknown": float(len(self.unknown)),
            "refused": float(len(self.rejected)),
            "unanswered": float(len(self.failed)),
            "latency_ms_p50": cuts[49],
            "latency_ms_p90": cuts[89],
            "latency_ms_p99": cuts[98],
            "latency_ms_max": max(latencies),
        }

    def confusion(self) -> list[list[int]]:
        """Return the counts [true class, likeliest class]."""
        count = len(self.classes)
        predicted = self.probabilities.argmax(1) if self.answered else self.labels
        flat = np.bincount(self.labels * count + predicted, minlength=count * count)
        return [[int(cell) for cell in row] for row in flat.reshape(count, count)]

    def write(self, path: Path, about: dict[str, Any]) -> list[Path]:
        """Write the batch as JSON, and its rows as CSV beside it; return the two paths."""
        content = about | {
            "versions": dict(self.versions),
            "figures": self.figures,
            "confusion_matrix": {"classes": self.classes, "true_by_row": self.confusion()},
            "photos": [vars(row) for row in self.rows],
        }
        _replace(path, json.dumps(content, indent=1) + "\n")
        table = path.with_suffix(".csv")
        partial = table.with_name(f".{table.name}.part")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            plain = [name for name in Row.__dataclass_fields__ if name != "probabilities"]
            writer.writerow([*plain, *(f"p_{name}" for name in self.classes)])
            for row in self.rows:
                scores = row.probabilities or {}
                values = [getattr(row, name) for name in plain]
                writer.writerow([*values, *(scores.get(name, "") for name in self.classes)])
        partial.replace(table)
        return [path, table]

    def print_summary(self) -> None:
        """Print the metrics, and the photos without a prediction."""
        print(f"{len(self.answered)} of {len(self.rows)} photos answered{self._exceptions()}")
        if self.figures:
            self._print_figures()
        for title, rows in (("rejected", self.rejected), ("without an answer", self.failed)):
            for row in rows[:_LISTED]:
                print(f"{title}: {row.path}: {row.error}")
            if len(rows) > _LISTED:
                print(f"{title}: and {len(rows) - _LISTED} more")

    def _exceptions(self) -> str:
        parts = [f"{len(self.rejected)} rejected"] * bool(self.rejected)
        parts += [f"{len(self.failed)} without an answer"] * bool(self.failed)
        return f"; {', '.join(parts)}" if parts else ""

    def _print_figures(self) -> None:
        f = self.figures
        for name, title in (("accuracy", "accuracy"), ("log_loss", "log loss")):
            interval = f"{f[f'{name}_low']:.4f} to {f[f'{name}_high']:.4f}"
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
        figures = (f"{name} {f[f'latency_ms_{name}']:.0f} ms" for name in ("p50", "p90", "p99", "max"))
        print(f"latency: {', '.join(figures)}")


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text, "utf-8")
    partial.replace(path)
