"""The parts of scripts/collect_predictions.py."""
