"""The stages ingest and prepare, and the prepared photos that the later stages read."""
