"""What scripts/rehearsal.py and scripts/recording.py do on this machine."""
