"""Stage evaluate: test metrics, slices, plots, OOD detection, and the comparison of two models."""
