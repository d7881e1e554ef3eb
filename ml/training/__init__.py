"""Stage train: augmented batches, the training loop, and weight averaging after the last epoch."""
