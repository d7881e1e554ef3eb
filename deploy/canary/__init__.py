"""Decides by Prometheus whether a new version gets all traffic: `--canary` of `python -m deploy TARGET`.

`sequential` is the statistics, `judge` the rules, `counts` and `reader` get the data, `steps` leads through
the shares of traffic, and `report` explains the outcome.
"""
