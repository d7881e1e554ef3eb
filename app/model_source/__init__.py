"""From MODEL_URL to a verified local file."""
