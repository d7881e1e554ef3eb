"""What the stages have left in reports/, for the model card and for the page that shows all of it."""

import csv
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml.errors import PipelineError
from ml.licences import collections_of
from ml.paths import (
    HISTORY,
    METRICS,
    PACKAGE_REPORT,
    PACKAGED,
    PREPARE_REPORT,
    PROMOTION,
    REPORT,
    SITUATIONS,
    SLICES,
    STABILITY,
)

_SPLITS = Path("data/processed/splits.json")


@dataclasses.dataclass(frozen=True)
class Reports:
    """Plain values; empty where a stage hasn't run.

    Attributes:
        params: of params.yaml.
        source: where the photos came from.
        prepared: photos by class and split, and how many were dropped, by reason.
        dropped: path, reason and detail of each photo that was.
        collections: licence to number of photos, see `ml.licences`.
        history: epochs, and the choices after them.
        measured: figures of the network, and the ways to tell photos of something else.
        slices: see `ml.evaluation.slices`.
        stability: see `ml.stability`.
        situations: see `ml.packaging.drawn`.
        packaged: figures of the twin.
        promotion: what was decided, of the twin where it is there, else of the network.
    """

    params: Mapping[str, Any]
    source: str
    prepared: dict[str, Any]
    dropped: list[dict[str, str]]
    collections: dict[str, int]
    history: dict[str, Any]
    measured: dict[str, Any]
    slices: dict[str, Any]
    stability: dict[str, Any]
    situations: list[dict[str, Any]]
    packaged: dict[str, Any]
    promotion: dict[str, Any]


def load(
    params: Mapping[str, Any],
    evaluated: Path = REPORT,
    packaged: Path = PACKAGE_REPORT,
    splits: Path = _SPLITS,
) -> Reports:
    """Read what is there.

    Raises:
        PipelineError: a file is broken.
    """
    photos = _read(splits, {}).get("photos", [])
    source = str(params.get("ingest", {}).get("source", ""))
    return Reports(
        params=params,
        source=source,
        prepared=_read(PREPARE_REPORT / "report.json", {}),
        dropped=_table(PREPARE_REPORT / "dropped.csv"),
        collections=collections_of([photo["path"] for photo in photos], source),
        history=_read(HISTORY, {}),
        measured=_read(evaluated / METRICS, {}),
        slices=_read(evaluated / SLICES, {}),
        stability=_read(packaged / STABILITY, {}),
        situations=_read(packaged / SITUATIONS, []),
        packaged=_read(packaged / PACKAGED, {}),
        promotion=_read(packaged / PROMOTION, {}) or _read(evaluated / PROMOTION, {}),
    )


def _read(path: Path, missing: Any) -> Any:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return missing
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path} is broken ({error}): run `dvc repro`") from error
    if type(found) is not type(missing):
        raise PipelineError(f"{path} is broken: run `dvc repro`")
    return found


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [dict(row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise PipelineError(f"{path} is broken ({error}): run `dvc repro`") from error
