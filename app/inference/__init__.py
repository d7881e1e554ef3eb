"""The loaded model, and the way from encoded photos to predictions."""
