"""Writes a `model.pt` as an MLflow model, which `mlflow.pyfunc`, `mlflow models serve` and Spark can load.

It contains the code that it needs and names the versions of the packages, so that it works without this
project.
"""

import io
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import Map
from PIL import Image

import ml
from ml.registry.photo_classifier import INPUT

DATA = "data"
"""Folder of `model.pt` in the MLflow model."""

_SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.binary, INPUT)]),
    outputs=Schema(
        [
            ColSpec(DataType.string, "label"),
            ColSpec(Map(DataType.double), "probabilities"),
            ColSpec(DataType.double, "known", required=False),
            ColSpec(DataType.string, "error"),
        ]
    ),
)
_PACKAGES = ("mlflow", "numpy", "onnxruntime", "pillow")
_CODE = ("model", "registry/__init__.py", "registry/photo_classifier.py")


def write(model: Path, folder: Path) -> None:
    """Write `model.pt` as an MLflow model into a folder that does not exist yet."""
    with tempfile.TemporaryDirectory() as temporary:
        mlflow.pyfunc.save_model(
            folder,
            loader_module="ml.registry.photo_classifier",
            data_path=str(model),
            code_paths=[str(_copy_code(Path(temporary)))],
            signature=_SIGNATURE,
            input_example=pd.DataFrame({INPUT: [_example()]}),
            pip_requirements=[f"{package}=={version(package)}" for package in _PACKAGES],
        )


def _copy_code(folder: Path) -> Path:
    """Copy the modules that classify photos; return the folder of the package."""
    source, target = Path(ml.__file__).parent, folder / "ml"
    (target / "registry").mkdir(parents=True)
    for name in ("__init__.py", *_CODE):
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source / name, target / name)
    return target


def _example() -> bytes:
    """Return a small picture of nobody's: the model may be shared, and the photos may not."""
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((64, 64)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()
