"""Metrics and their push, the request log, traces, and the signed ids for feedback."""
