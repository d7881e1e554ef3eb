"""Every alert has a case in which it fires, one in which it does not, links, and a section in the runbook."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.conftest import needs
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S
from tests.project.test_docs import anchors

RULES = sorted((ROOT / "monitoring" / "rules").glob("*.yml"))
CASES = sorted((Path(__file__).parent / "rules").glob("*.yml"))
GROUPS = yaml.safe_load((ROOT / "monitoring" / "rules" / "alerts.yml").read_text())["groups"]
ALERTS = [rule for group in GROUPS for rule in group["rules"]]
KINDS = [(alert["alert"], alert["labels"]["severity"]) for alert in ALERTS]
ALWAYS = ("Watchdog", "none")
RUNBOOK = ROOT / "docs" / "RUNBOOK.md"
LINKS = ("runbook_url", "dashboard_url")

needs_promtool = needs("promtool")


def promtool(*arguments: str | Path) -> None:
    environ = os.environ | {"GOGC": "800"}  # with less garbage collection it takes two thirds of the CPU time
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=HANG_S, env=environ
    )
    assert done.returncode == 0, done.stdout + done.stderr


def repository() -> str:
    """OWNER/REPO as `make owner` has written it."""
    return re.search(r"https://github\.com/([^/]+/[^/]+)/releases", (ROOT / "render.yaml").read_text())[1]


@needs_promtool
def test_the_rules_are_valid():
    promtool("check", "rules", "--lint-fatal", *RULES)


@needs_promtool
@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_cases(file, tmp_path):
    """The links are left out: they have a test of their own, and every fork has others."""
    groups = [
        group | {"rules": [rule | {"annotations": without_links(rule)} for rule in group["rules"]]}
        for group in GROUPS
    ]
    alerts = tmp_path / "alerts.yml"
    alerts.write_text(yaml.safe_dump({"groups": groups}))
    cases = tmp_path / file.name
    text = file.read_text().replace("../../../monitoring/rules/alerts.yml", str(alerts))
    cases.write_text(text.replace("../../../monitoring", f"{ROOT}/monitoring"))
    promtool("test", "rules", cases)


def without_links(rule: dict) -> dict[str, str]:
    return {name: text for name, text in rule["annotations"].items() if name not in LINKS}


@needs_promtool
@pytest.mark.parametrize("grafana", ["", "https://grafana.example.org"])
def test_links_are_filled_in(tmp_path, grafana):
    """One alert per kind of link; without the external label they lead to the Grafana of docker compose."""

    def expected(name: str, severity: str, texts: tuple[str, str], link: str, **labels: str) -> dict:
        return {
            "alertname": name,
            "eval_time": "10m",
            "exp_alerts": [
                {
                    "exp_labels": {"severity": severity, **labels},
                    "exp_annotations": {
                        "summary": texts[0],
                        "description": texts[1],
                        "runbook_url": f"https://github.com/{repository()}/blob/main/docs/RUNBOOK.md#{name.lower()}",
                        "dashboard_url": f"{grafana or 'http://localhost:3000'}/d/cats-vs-dogs-{link}",
                    },
                }
            ],
        }

    one = {"job": "cats-vs-dogs", "instance": "a:80"}
    labels = '{job="cats-vs-dogs", instance="a:80"}'
    down = ("cats-vs-dogs a:80 provides no metrics",
            "It has stopped, cannot be reached, or has a different METRICS_TOKEN.")  # fmt: skip
    all_down = ("cats-vs-dogs provides no metrics", down[1])
    no_instance = expected("ServiceDown", "page", down, "service?var-job=cats-vs-dogs", **one)
    no_instance["exp_alerts"] += expected(
        "ServiceDown", "page", all_down, "service?var-job=cats-vs-dogs", job="cats-vs-dogs"
    )["exp_alerts"]
    memory = ("a:80 uses 95% of its memory limit",
              "Above the limit the process is killed, and the requests in progress are lost.")  # fmt: skip
    missing = ("a:80 runs without a model",
               "The model is still being downloaded, or is downloaded again after each failure.")  # fmt: skip
    differ = (
        "cats-vs-dogs serves 2 different models at the same time",
        "A canary or a deployment is under way, or has stopped halfway.",
    )
    watchdog = ("Alerts are evaluated and delivered",
                "Always fires. A service outside, which alertmanager.yml names, must raise the alarm when it "
                "stops.")  # fmt: skip
    models = [{"series": f'model_info{{job="cats-vs-dogs", sha256="{n}"}}', "values": "1x60"} for n in "ab"]
    series = {"up": "0x60", "process_resident_memory_bytes": "95x60", "process_memory_limit_bytes": "100x60",
              "process_start_time_seconds": "1x60"}  # fmt: skip
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name + labels, "values": text} for name, text in series.items()],
            "alert_rule_test": [
                no_instance,
                expected("MemoryNearLimit", "page", memory,
                         "service?var-job=cats-vs-dogs&var-instance=a:80", **one),
                expected("ModelMissing", "page", missing,
                         "model?var-job=cats-vs-dogs&var-instance=a:80", **one),
                expected("Watchdog", "none", watchdog, "service"),
            ],
        },
        {
            "interval": "1m",
            "input_series": models,
            "alert_rule_test": [
                expected("ModelsDiffer", "ticket", differ, "model?var-job=cats-vs-dogs", job="cats-vs-dogs")
                | {"eval_time": "40m"}
            ],
        },
    ]  # fmt: skip
    if grafana:
        tests = [test | {"external_labels": {"grafana": grafana}} for test in tests]
    file = tmp_path / "links.yml"
    file.write_text(yaml.safe_dump({"rule_files": list(map(str, RULES)), "tests": tests}))
    promtool("test", "rules", file)


def test_every_alert_has_full_links_that_lead_somewhere():
    """The anchor is a heading of the runbook; the dashboard is one of those in the repository."""
    headings = anchors(RUNBOOK.read_text())
    boards = [file.read_text() for file in (ROOT / "monitoring/grafana/dashboards").glob("*.json")]
    uids = {re.search(r'"uid": "(cats-vs-dogs-\w+)"', board)[1] for board in boards}
    for alert in ALERTS:
        annotations = alert["annotations"]
        assert set(annotations) == {"summary", "description", *LINKS}
        page, _, anchor = annotations["runbook_url"].partition("#")
        assert page == f"https://github.com/{repository()}/blob/main/docs/RUNBOOK.md"
        assert anchor == alert["alert"].lower()
        assert anchor in headings
        link = re.fullmatch(
            r'\{\{ or \$externalLabels.grafana "http://localhost:3000" \}\}/d/([\w-]+)'
            r"(\?var-job=\{\{ \$labels.job \}\}(&var-instance=\{\{ \$labels.instance \}\})?)?",
            annotations["dashboard_url"],
        )
        assert link, alert["alert"]
        assert link[1] in uids


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
    assert quiet == set(KINDS) - {ALWAYS}


def sections() -> dict[str, str]:
    """The runbook's text on each alert."""
    alerts = RUNBOOK.read_text().partition("\n## Alerts\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^### (\w+)\n\n(.*?)(?=\n### |\Z)", alerts, re.MULTILINE | re.DOTALL))


def test_every_alert_has_a_section_in_the_runbook_with_commands_for_every_platform():
    assert sorted(sections()) == sorted({name for name, _ in KINDS})
    for alert in ALERTS:
        commands = re.findall(r"^    (.+)$", sections()[alert["alert"]], re.MULTILINE)
        of_monitoring = alert in GROUPS[-1]["rules"]  # which runs on compose, or in a cluster
        for program in ("docker compose", "kubectl", *([] if of_monitoring else ["gcloud", "render"])):
            assert any(program in command for command in commands), f"{alert['alert']}: no {program}"
        assert alert["labels"]["severity"] in ("page", "ticket", "info", "none")


def test_the_commands_that_add_capacity_are_the_same_everywhere() -> None:
    capacity = RUNBOOK.read_text().partition("\n### Capacity\n")[2].partition("\n### ")[0]
    blocks = re.findall(
        r"To (?:add instances or CPUs|raise the limit):\n\n((?:    .+\n)+)", RUNBOOK.read_text()
    )
    assert len(blocks) == 3
    assert [block for block in blocks if block not in capacity] == []


PROGRAMS = (
    "curl",
    "docker",
    "export",
    "for",
    "gcloud",
    "kubectl",
    "promtool",
    "python",
    "render",
    "unset",
    "[A-Z_]+=",
)


def commands() -> tuple[list[str], list[str]]:
    """The queries of the sections on alerts, and the commands of the whole second half of the runbook."""
    text = RUNBOOK.read_text().partition("\n## On your platform\n")[2]
    lines = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    shell = [line for line in lines if re.match("|".join(PROGRAMS), line)]
    return [line for line in lines if line not in shell], shell


@needs_promtool
def test_queries_of_the_runbook_are_valid(tmp_path):
    queries, _ = commands()
    assert len(queries) >= 30
    rules = [{"record": f"runbook:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "runbook", "rules": rules}]}))
    promtool("check", "rules", file)


def test_commands_of_the_runbook_are_valid_shell():
    _, shell = commands()
    assert len(shell) > 80
    done = subprocess.run(["bash", "-n"], input="\n".join(shell), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs("kubectl")
def test_kubectl_knows_its_commands_and_options_of_the_runbook():
    """With --help it still rejects options that it does not know."""
    _, shell = commands()
    named = {
        part.strip() for line in shell for part in re.split(r"&&|;|\|| # ", line) if "kubectl" in part[:9]
    }
    assert len(named) > 20
    for command in sorted(named):
        words = shlex.split(command)
        done = subprocess.run([*words, "--help"], capture_output=True, text=True, timeout=HANG_S)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert "Usage:" in done.stdout, command
