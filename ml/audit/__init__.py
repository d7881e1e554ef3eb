"""The label audit: finds photos whose label may be wrong, and lets a person decide about each."""
