"""Scoring: answers for any number of photos, as a Parquet dataset. Its modules need pyarrow."""
