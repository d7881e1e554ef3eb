"""The files of a release: model.pt, verified and matched with its reports, and the files that describe it."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml.evaluation.compare import WORSE
from ml.model import VERSION, bundle
from ml.model.errors import PipelineError
from ml.model.manifest import Manifest
from ml.model.partial import sha256_of
from ml.model.signature import SignatureError, sign
from ml.paths import GATE_REPORT, METRICS, MODEL, PACKAGE_REPORT, PACKAGED, PROMOTION, REPORT, SHOW_PHOTOS
from ml.reporting.model_card import summary

_MAX_BYTES = 2 << 30
"""GitHub accepts files smaller than this."""


@dataclasses.dataclass(frozen=True)
class File:
    """A file: its name in the release, path, size in bytes, and SHA-256 in hexadecimal."""

    name: str
    path: Path
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Contents:
    """All files of a release.

    Attributes:
        files: in the order of their upload, model.pt first.
        manifest: the model's description.
        summary: Markdown for the release's page.
        public_key: of the key that signed model.pt, in base64; empty: it is not signed.
    """

    files: tuple[File, ...]
    manifest: Manifest
    summary: str
    public_key: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the sorted lines that sha256sum would print: it identifies this set of files."""
        lines = sorted(f"{file.sha256}  {file.name}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def collect(
    folder: Path,
    url: str = "",
    extra: Sequence[Path] = (),
    signing_key: str = "",
    accept_candidate: bool = False,
) -> Contents:
    """Verify models/model.pt and collect the files that are published with it.

    Args:
        folder: model.pt.sha256, model.pt.sig, metrics.json and MODEL_CARD.md are written here.
        url: of the published model, for the summary.
        extra: additional files, such as an attestation.
        signing_key: Ed25519 private key that signs model.pt; empty: it is not signed.
        accept_candidate: accept a model that packaging marked as a candidate.

    Raises:
        PipelineError: the model is missing, damaged, unsafe, a candidate, worse than the champion, rejected
            by the gate, or of another run than its reports; the key can't be used; a file is missing, empty,
            too large, or has a name that GitHub would change.
    """
    model = _model()
    figures = _figures(model)
    if not accept_candidate:
        _check_candidate(model)
    _check_verdicts(model)
    texts = {
        "model.pt.sha256": f"{model.sha256}  model.pt\n",
        METRICS: json.dumps(figures, indent=2, sort_keys=True) + "\n",
        "MODEL_CARD.md": model.card,
    }
    public_key = ""
    if signing_key:
        try:
            texts["model.pt.sig"], public_key = sign(model.sha256, signing_key)
        except SignatureError as error:
            raise PipelineError(f"MODEL_SIGNING_KEY: {error}") from None
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    # Without the plots that show photos, because other people own their copyright.
    plots = sorted(path for path in REPORT.glob("*.png") if path.name not in SHOW_PHOTOS)
    files = tuple(_file(path) for path in (MODEL, *(folder / name for name in texts), *plots, *extra))
    names = [file.name.lower() for file in files]
    if twice := {name for name in names if names.count(name) > 1}:
        raise PipelineError(f"two files have the same name: {', '.join(sorted(twice))}")
    if files[0].sha256 != model.sha256:  # later changes fail the check of the upload
        raise PipelineError(f"{MODEL} has changed while it was read: run the command again")
    made_with = f"Made with cats-vs-dogs {VERSION}."
    text = f"{summary(model.manifest, figures, url)}\n\n{made_with}"
    return Contents(files, model.manifest, text, public_key)


def _model() -> bundle.Bundle:
    try:
        bundle.check_archive(MODEL.read_bytes())
        model = bundle.read(MODEL)
    except FileNotFoundError as error:
        raise PipelineError(f"{MODEL} is missing: run `dvc repro`") from error
    except (OSError, ValueError) as error:
        raise PipelineError(f"rejected: {MODEL}: {error}") from error
    if not model.card:
        raise PipelineError(f"rejected: {MODEL} contains no model card: run `dvc repro`")
    return model


def _figures(model: bundle.Bundle) -> dict[str, Any]:
    """Merge the figures of the stages evaluate and package, after a check that they are this model's."""
    measured, packaged = _report(REPORT / METRICS), _report(PACKAGE_REPORT / PACKAGED)
    manifest = model.manifest
    try:
        agreement = {
            "sha256": packaged["sha256"] == model.sha256,
            "temperature": math.isclose(measured["temperature"], manifest.temperature, rel_tol=1e-9),
            "photos": measured["test"]["photos"] == packaged["twin"]["photos"],
        }
        shown = ("precision", "version", "sha256", "torch", "twin", "mean_difference")
        figures = {name: packaged[name] for name in shown}
        figures |= {"known": packaged["known"], "test_digest": str(measured["test_digest"])}
        figures |= {"conditions": packaged["conditions"], "baselines": measured["baselines"]}
    except (KeyError, TypeError) as error:
        raise PipelineError(f"the reports of {MODEL} are incomplete ({error}): run `dvc repro`") from error
    if differing := [name for name, agrees in agreement.items() if not agrees]:
        raise PipelineError(
            f"rejected: {MODEL} and its reports are from different runs ({', '.join(differing)} differ): "
            "run `dvc repro`"
        )
    described = manifest.to_dict()
    copied = ("arch", "classes", "image_size", "temperature", "created", "git_commit", "dataset_md5")
    return figures | {name: described[name] for name in copied}


def _check_candidate(model: bundle.Bundle) -> None:
    if model.manifest.shortfalls:
        raise PipelineError(
            f"rejected: {MODEL} is only a candidate ({'; '.join(model.manifest.shortfalls)}); "
            "to publish it nevertheless, add --candidate"
        )


def _check_verdicts(model: bundle.Bundle) -> None:
    """Raise PipelineError if the model is worse than the champion or did not pass the release gate."""
    promotion = _report(PROMOTION) if PROMOTION.exists() else {}
    if promotion.get("sha256") == model.sha256 and promotion.get("verdict") == WORSE:
        raise PipelineError(f"rejected: {'; '.join(map(str, promotion.get('reasons', [])))}")
    gate = _report(GATE_REPORT) if GATE_REPORT.exists() else {}
    same_model = (gate.get("candidate") or {}).get("sha256") == model.sha256
    if same_model and not gate.get("passed"):
        raise PipelineError(f"rejected by the gate: {'; '.join(map(str, gate.get('reasons', [])))}")


def _report(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path} is missing or broken: run `dvc repro`") from error
    if not isinstance(report, dict):
        raise PipelineError(f"{path} is broken: run `dvc repro`")
    return report


def _file(path: Path) -> File:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?", path.name):
        raise PipelineError(
            f"{path.name!r:.120}: GitHub would rename it; use only letters, digits and . _ - inside"
        )
    try:
        size, sha256 = path.stat().st_size, sha256_of(path)
    except OSError as error:
        raise PipelineError(f"{path} can't be read: {error.strerror}") from error
    if not 0 < size < _MAX_BYTES:
        raise PipelineError(f"{path} has {size:,} bytes; a release accepts files of 1 to {_MAX_BYTES - 1:,}")
    return File(path.name, path, size, sha256)
