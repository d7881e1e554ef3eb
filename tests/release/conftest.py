"""Fixtures of the pipeline's tests, for the tests that need a trained model."""

from tests.ml.conftest import make_photos, params

__all__ = ["make_photos", "params"]
