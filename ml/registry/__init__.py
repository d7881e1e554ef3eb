"""The model registry in MLflow: registration, champion, and runs linked to a registered version."""
