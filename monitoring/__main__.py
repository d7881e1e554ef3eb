"""Write the generated files of monitoring: Grafana's dashboards, and the rules as an object of Kubernetes."""

import argparse
from pathlib import Path

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.dashboards import model, service

_HERE = Path(__file__).parent
DASHBOARDS = _HERE / "grafana" / "dashboards"
RULES = _HERE.parent / "deploy" / "k8s" / "components" / "monitoring" / "prometheusrule.yaml"

_HEAD = """\
# Generated from monitoring/rules by `make dashboards`: edit those files. The alerts about Prometheus itself
# are left out, because kube-prometheus-stack brings its own.
"""
_OWN_GROUP = "monitoring"


def texts() -> dict[Path, str]:
    """Return the contents of the files."""
    encoder = JSONEncoder(sort_keys=True, indent=2)
    boards = {"service.json": service.board(), "model.json": model.board()}
    made = {DASHBOARDS / name: encoder.encode(board.build()) + "\n" for name, board in boards.items()}
    return made | {RULES: _HEAD + yaml.safe_dump(_prometheus_rule(), sort_keys=False, width=4096)}


def _prometheus_rule() -> dict[str, object]:
    """Return all rules as one PrometheusRule of the Prometheus Operator."""
    files = [_HERE / "rules" / name for name in ("recording.yml", "alerts.yml")]
    groups = [group for file in files for group in yaml.safe_load(file.read_text("utf-8"))["groups"]]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        # The label is the one by which kube-prometheus-stack looks for rules.
        "metadata": {"name": "cats-vs-dogs", "labels": {"release": "kube-prometheus-stack"}},
        "spec": {"groups": [group for group in groups if group["name"] != _OWN_GROUP]},
    }


def main() -> None:
    """Write the files."""
    argparse.ArgumentParser(prog="python -m monitoring", description=__doc__).parse_args()
    for path, text in texts().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
