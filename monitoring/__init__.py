"""Dashboards as code, alert rules, and the configuration of Prometheus, Alertmanager and Grafana."""
