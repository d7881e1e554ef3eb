"""MLflow: runs, the model registry, and the provenance of a model."""
