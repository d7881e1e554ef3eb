"""MLflow: the runs, and the provenance of a model."""
