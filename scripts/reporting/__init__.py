"""Data of Prometheus, charts and sections, for scripts/report.py and the rehearsal's page."""
