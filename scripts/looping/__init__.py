"""The parts of `scripts/loop.py`, the rehearsal of the way from live photos to a better model."""
