"""Prepared photos to train on."""

import pytest

from ml.data import ingest, prepare
from ml.data.dataset import Dataset


@pytest.fixture
def data(make_photos, params, tmp_path, monkeypatch) -> Dataset:
    """40 photos of each of two classes, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ingest.run(params.ingest.model_copy(update={"source": str(make_photos(40))}))
    prepare.run(params.prepare)
    return Dataset.load()
