"""Grafana's dashboards as code; `python -m monitoring.dashboards` writes their JSON files.

Grafana's own library is used because a panel is its title and queries here, and forty lines in JSON.
"""
