"""What training and serving share: the only part of `ml` that `app` imports."""

VERSION = "1.0.0"
"""Version of this project, shown by /model, the model card, the image and the release (see CHANGELOG.md)."""
