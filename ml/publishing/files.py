"""What belongs to a release: `model.pt`, verified and matched with its reports, and what describes it."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ml import bundle, stage_reports
from ml.card import card, summary
from ml.errors import PipelineError
from ml.evaluation.verdicts import WORSE
from ml.fetch import sha256_of
from ml.manifest import Manifest
from ml.paths import GATE_REPORT, METRICS, MODEL, PACKAGE_REPORT, PACKAGED, PROMOTION, REPORT, SHOW_PHOTOS

MAX_BYTES = 2 << 30
"""GitHub takes files under this."""


@dataclasses.dataclass(frozen=True)
class File:
    """A file of the release.

    Attributes:
        name: in the release.
        path: on this machine.
        size: in bytes.
        sha256: in hexadecimal.
    """

    name: str
    path: Path
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Contents:
    """All files of a release, in the order in which they are uploaded.

    Attributes:
        files: `model.pt` first.
        manifest: of the model.
        summary: Markdown for people who look at the release.
    """

    files: tuple[File, ...]
    manifest: Manifest
    summary: str

    @property
    def model(self) -> File:
        """The one that is served."""
        return self.files[0]

    @property
    def digest(self) -> str:
        """SHA-256 that names this set of files: of lines as sha256sum writes them, sorted."""
        lines = sorted(f"{file.sha256}  {file.name}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def collect(folder: Path, url: str = "", extra: Sequence[Path] = (), model: Path = MODEL) -> Contents:
    """Verify the model and gather what is published with it.

    Args:
        folder: made files are written here: `model.pt.sha256`, `metrics.json`, `MODEL_CARD.md`.
        url: where the published model will be, for the summary.
        extra: further files, such as a signature.
        model: the pipeline's; its reports are beside it, in reports/.

    Raises:
        PipelineError: the model is missing, broken, foreign, not the one of the reports, or was refused by
            a gate; a file is missing, empty, too large, or has a name that GitHub would change.
    """
    read = _verified(model)
    figures = _figures(read)
    _obey(read)
    texts = {
        "model.pt.sha256": f"{read.sha256}  model.pt\n",
        METRICS: json.dumps(figures, indent=2, sort_keys=True) + "\n",
        "MODEL_CARD.md": _card(read, figures),
    }
    try:
        for name, text in texts.items():
            (folder / name).write_text(text, "utf-8")
    except OSError as error:
        raise PipelineError(f"{folder} can't be written to: {error.strerror}") from error
    made = [folder / name for name in texts]
    files = tuple(_file(path) for path in (model, *made, *_pictures(), *extra))
    names = [file.name.lower() for file in files]
    if twice := {name for name in names if names.count(name) > 1}:
        raise PipelineError(f"two files of one name: {', '.join(sorted(twice))}")
    if files[0].sha256 != read.sha256:  # and should it change later: what is uploaded is held to this digest
        raise PipelineError(f"{model} changes while it is read")
    return Contents(files, read.manifest, summary(read.manifest, figures, url))


def _verified(path: Path) -> bundle.Bundle:
    try:
        bundle.check_archive(path.read_bytes())
        return bundle.read(path)
    except FileNotFoundError as error:
        raise PipelineError(f"{path} is missing: run `dvc repro`") from error
    except (OSError, ValueError) as error:
        raise PipelineError(f"refused: {path}: {error}") from error


def _figures(read: bundle.Bundle) -> dict[str, Any]:
    """Merge the figures of the stages evaluate and package, if they are of this model.

    The stages leave no other link than values: the file's digest, its version, figures and temperature.
    """
    measured, packaged = _report(REPORT / METRICS), _report(PACKAGE_REPORT / PACKAGED)
    manifest = read.manifest
    try:
        twin = packaged["twin"]
        agreeing = {
            "sha256": packaged["sha256"] == read.sha256,
            "version": packaged["version"] == manifest.version,
            "metrics": manifest.metrics.keys() == twin.keys()
            and all(math.isclose(twin[k], v, abs_tol=1e-5) for k, v in manifest.metrics.items()),
            "temperature": math.isclose(measured["temperature"], manifest.temperature, rel_tol=1e-9),
            "photos": measured["test"]["photos"] == twin["photos"],
        }
        if differing := [name for name, agrees in agreeing.items() if not agrees]:
            raise PipelineError(
                f"refused: {MODEL} and its reports are of different runs ({', '.join(differing)} differ): "
                "run `dvc repro`"
            )
        shown = ("precision", "version", "sha256", "torch", "twin", "mean_difference")
        merged = {name: packaged[name] for name in shown}
        for name in ("accuracy", "accuracy_low", "accuracy_high", "log_loss"):
            float(twin[name])
        merged["known"] = packaged.get("known", {})
        merged |= {"test_digest": str(measured["test_digest"])}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PipelineError(f"the reports of {MODEL} are incomplete ({error}): run `dvc repro`") from error
    described = manifest.to_dict()
    for name in ("arch", "classes", "image_size", "temperature", "created", "git_commit", "dataset_md5"):
        merged[name] = described[name]
    return merged


def _pictures() -> list[Path]:
    """Return the plots, but none in which photos are seen: their copyright is others'."""
    return sorted(path for path in REPORT.glob("*.png") if path.name not in SHOW_PHOTOS)


def _obey(read: bundle.Bundle) -> None:
    """Refuse a model that a gate has found wanting.

    Raises:
        PipelineError: it is clearly worse than the champion, or didn't pass the release gate.
    """
    decided = _report(path) if (path := PACKAGE_REPORT / PROMOTION).exists() else {}
    if decided.get("verdict") == WORSE:
        raise PipelineError(f"refused: {'; '.join(map(str, decided.get('reasons', [])))}")
    judged = _report(GATE_REPORT) if GATE_REPORT.exists() else {}
    same = (judged.get("candidate") or {}).get("sha256") == read.sha256
    if same and not judged.get("passed"):
        raise PipelineError(f"refused by the gate: {'; '.join(map(str, judged.get('reasons', [])))}")


def _report(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path} is missing or broken: run `dvc repro`") from error
    if not isinstance(found, dict):
        raise PipelineError(f"{path} is broken: run `dvc repro`")
    return found


def _card(read: bundle.Bundle, figures: dict[str, Any]) -> str:
    """Return the model's own card, or one made from the reports where it has none."""
    return read.card or card(read.manifest, figures, stage_reports.load(_params()))


def _params() -> dict[str, Any]:
    """Return params.yaml as it is. Not by `ml.params`, whose imports take as long as all the rest."""
    try:
        found = yaml.safe_load(Path("params.yaml").read_text("utf-8"))
    except (OSError, yaml.YAMLError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _file(path: Path) -> File:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?", path.name):
        raise PipelineError(
            f"{path.name!r:.120}: GitHub would rename it; letters, digits and . _ - inside only"
        )
    try:
        size, sha256 = path.stat().st_size, sha256_of(path)
    except OSError as error:
        raise PipelineError(f"{path} can't be read: {error.strerror}") from error
    if not 0 < size < MAX_BYTES:
        raise PipelineError(f"{path} has {size:,} bytes; a release takes files of 1 to {MAX_BYTES - 1:,}")
    return File(path.name, path, size, sha256)
