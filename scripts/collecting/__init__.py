"""What scripts/collect_predictions.py is made of."""
