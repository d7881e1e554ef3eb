"""The label audit: finds photos whose label is probably wrong, and lets a person decide about each."""
