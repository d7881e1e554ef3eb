"""The steps that scripts/rehearsal.py and scripts/recording.py share."""
