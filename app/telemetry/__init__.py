"""Metrics, request log, and metrics push."""
