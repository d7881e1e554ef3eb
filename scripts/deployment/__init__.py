"""What scripts/deploy.py does: one flow over three targets."""
