"""Every alert has a case in which it fires, one in which it does not, and a section in the runbook."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import needs
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S

RULES = sorted((ROOT / "monitoring" / "rules").glob("*.yml"))
CASES = sorted((Path(__file__).parent / "rules").glob("*.yml"))
ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "monitoring" / "rules" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
KINDS = [(alert["alert"], alert["labels"]["severity"]) for alert in ALERTS]

needs_promtool = needs("promtool")


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_the_rules_are_valid():
    promtool("check", "rules", "--lint-fatal", *RULES)


@needs_promtool
@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_cases(file):
    promtool("test", "rules", file)


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not():
    fires, quiet = set(), set()
    for file in CASES:
        for group in yaml.safe_load(file.read_text())["tests"]:
            for case in group["alert_rule_test"]:
                severities = {alert["exp_labels"]["severity"] for alert in case["exp_alerts"]}
                assert all(alert["exp_annotations"] for alert in case["exp_alerts"])
                fires |= {(case["alertname"], severity) for severity in severities}
                quiet |= {
                    kind for kind in KINDS if kind[0] == case["alertname"] and kind[1] not in severities
                }
    assert fires == set(KINDS)
    assert quiet == set(KINDS)


def test_every_alert_names_its_section_in_the_runbook():
    alerts = (ROOT / "docs" / "RUNBOOK.md").read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
    sections = re.findall(r"^### (\w+)\n\n(.*?)(?=\n### |\Z)", alerts, re.MULTILINE | re.DOTALL)
    assert sorted(name for name, _ in sections) == sorted({name for name, _ in KINDS})
    for name, text in sections:
        assert text.count("\n    ") >= 1, f"{name}: no command to look with"
    for alert in ALERTS:
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}
        assert alert["annotations"]["runbook"] == f"docs/RUNBOOK.md#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in ("page", "ticket", "info")
