"""Grafana's dashboards as code; `python -m monitoring` writes their JSON files.

Grafana's own library is used because a panel is its title, text and queries here, and forty lines in JSON.
"""
