"""What training and serving share: the only part of `ml` that `app` imports."""

NAME = "cats-vs-dogs"
"""Name of the service: in its answers, in Prometheus (job) and in traces."""

VERSION = "1.0.0"
"""Version of this project, shown by /model, the model card, the image and the release (see CHANGELOG.md)."""
