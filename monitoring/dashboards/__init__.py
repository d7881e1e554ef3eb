"""The dashboards that Grafana is provisioned with, as code: `make dashboards` after a change here.

By Grafana's own library and not as JSON by hand: a panel is a title and its queries here, forty lines there.
"""
