"""Grafana's dashboards match their code, and each query has series when the real service is scraped."""

import contextlib
import json
import math
import re
import threading
import urllib.request
from collections.abc import Iterator

import pytest
import yaml

from scripts.common import monitoring
from tests.conftest import REQUIRE_ALL, needs
from tests.helpers import monitoring_tools as tools
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, running
from tests.helpers.waiting import HANG_S, until
from tests.monitoring.test_rules import promtool
from tests.project.test_docs import anchors

GRAFANA = ROOT / "monitoring" / "grafana"
BOARDS = {file.name: json.loads(file.read_text()) for file in (GRAFANA / "dashboards").glob("*.json")}
PANELS = [(board, panel) for board in BOARDS.values() for panel in board["panels"] if panel["type"] != "row"]
CAT = (ROOT / "tests" / "photos" / "cat.jpg").read_bytes()


def test_the_files_match_the_code():
    if not REQUIRE_ALL:
        pytest.importorskip("grafana_foundation_sdk")
    from monitoring.__main__ import DASHBOARDS, texts

    made = texts()
    for path, text in made.items():
        assert path.read_text() == text, f"{path} is out of date; run make dashboards"
    assert {path.name for path in made if path.parent == DASHBOARDS} == set(BOARDS)
    assert set(BOARDS) == {"service.json", "model.json"}


def test_dashboards_and_data_source_are_provisioned():
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/files.yml").read_text())["providers"]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    mounts = compose["services"]["grafana"]["volumes"]
    assert f"./monitoring/grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert source["url"] == "http://prometheus:9090"
    used = {"type": source["type"], "uid": source["uid"]}
    for board, panel in PANELS:
        assert panel["datasource"] == used
        assert panel["targets"]
        assert panel["title"]
        assert all(annotation["datasource"] == used for annotation in board["annotations"]["list"])
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)


def test_every_panel_says_what_it_shows():
    texts = [panel["description"] for _, panel in PANELS]
    assert len(texts) > 30
    for (_, panel), text in zip(PANELS, texts, strict=True):
        assert len(text) > 40, panel["title"]
        assert text.endswith("."), panel["title"]
        assert text != panel["title"]


def test_dashboards_link_to_each_other_to_the_runbook_and_to_the_logs():
    runbook = (ROOT / "docs" / "RUNBOOK.md").read_text()
    rules = (ROOT / "monitoring" / "rules" / "alerts.yml").read_text()
    page = re.search(r"runbook_url: (https://[^#]+)#", rules)[1]
    for board in BOARDS.values():
        links = {link["title"]: link for link in board["links"]}
        assert set(links) == {"Dashboards", "Runbook", "Logs"}
        assert links["Dashboards"]["type"] == "dashboards"
        assert links["Dashboards"]["tags"] == ["cats-vs-dogs"]
        assert all("cats-vs-dogs" in other["tags"] for other in BOARDS.values())
        assert links["Dashboards"]["keepTime"]
        assert links["Dashboards"]["includeVars"]
        assert links["Runbook"]["url"] == page
        assert links["Logs"]["url"] == f"{page}#logs"
    assert "logs" in anchors(runbook)


def test_a_process_can_be_selected_and_deployments_are_marked():
    for board in BOARDS.values():
        job, instance = board["templating"]["list"]
        assert job["name"] == "job"
        assert (instance["name"], instance["multi"], instance["includeAll"]) == ("instance", True, True)
        assert '{job="$job"}' in instance["query"]
        marks = {mark["name"]: mark["expr"] for mark in board["annotations"]["list"]}
        assert "model_info" in marks["Model changes"]
        assert "process_start_time_seconds" in marks["Starts"]
    for _, panel in PANELS:
        for target in panel["targets"]:
            for metric, selector in re.findall(r"([\w:]+)\{([^}]*)\}", target["expr"]):
                recorded = ":" in metric or metric == "ALERTS"
                assert ('instance=~"$instance"' in selector) != recorded, (panel["title"], metric)


@needs("promtool")
def test_deployments_and_restarts_are_marked_when_they_happen(tmp_path):
    """One of two processes is replaced by one with another model after ten minutes; marks last five."""
    series = {
        'model_info{job="j", instance="a", version="1", sha256="x"}': "1x30",
        'model_info{job="j", instance="b", version="1", sha256="x"}': "1x10 stale",
        'model_info{job="j", instance="c", version="2", sha256="y"}': "_x11 1x20",
        'process_start_time_seconds{job="j", instance="a"}': "-9999x30",
        'process_start_time_seconds{job="j", instance="c"}': "_x11 600x20",
    }
    marks = {mark["name"]: mark["expr"] for mark in BOARDS["service.json"]["annotations"]["list"]}
    found = {
        "Model changes": '{job="j", version="2", sha256="y"}',
        "Starts": '{job="j", instance="c"}',
    }
    cases = []
    for name, expression in marks.items():
        filled = expression.replace("$job", "j").replace("$instance", ".*")
        for minute, there in ((9, False), (12, True), (25, False)):
            shown = {"Model changes": 1, "Starts": 60 * minute - 600}[name]
            samples = [{"labels": found[name], "value": shown}] if there else []
            cases.append({"expr": filled, "eval_time": f"{minute}m", "exp_samples": samples})
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": cases,
    }
    file = tmp_path / "marks.yml"
    file.write_text(yaml.safe_dump({"tests": [test]}))
    promtool("test", "rules", file)


def test_no_panels_overlap():
    for board in BOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert place["x"] + place["w"] <= 24
            assert not cells & taken, panel["title"]
            taken |= cells


def test_thresholds_are_those_of_the_alerts():
    rules = (ROOT / "monitoring" / "rules" / "alerts.yml").read_text()
    for rule, count in (("model:drift", 2), ("predict:client_error_ratio", 1), ("model:unknown_ratio", 1)):
        (threshold,) = set(re.findall(rf"{rule}:\w+ > ([\d.]+)", rules))
        panels = [panel for _, panel in PANELS if rule in panel["targets"][0]["expr"]]
        assert len(panels) == count
        for panel in panels:
            steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert steps[1]["value"] == float(threshold)


@contextlib.contextmanager
def little_traffic(service: Service) -> Iterator[None]:
    """Send a few photos at once, so that some are rejected; files that are not photos; feedback of users."""
    enough = threading.Event()
    url = f"http://127.0.0.1:{service.port}"

    def send() -> None:
        while not enough.wait(0.2):
            service.predict(b"no photo")
            for actual in ("cat", "cat", "cat", "dog"):
                status, answer = service.predict(CAT)
                if status != 200:
                    continue
                told = {"predicted": "cat", "actual": actual, "request_id": answer["request_id"]}
                word = json.dumps(told).encode()
                request = urllib.request.Request(
                    f"{url}/feedback", word, {"Content-Type": "application/json"}
                )
                urllib.request.urlopen(request, timeout=HANG_S).close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        enough.set()
        for thread in threads:
            thread.join()


@needs("prometheus")
def test_every_query_finds_series(tmp_path):
    config = (ROOT / "monitoring" / "prometheus.yml").read_text().replace("15s", "500ms")
    config = config.replace("rules/", f"{ROOT}/monitoring/rules/")
    left = {
        target["expr"]
        .replace("$job", "cats-vs-dogs")
        .replace("$instance", ".*")
        .replace("$__rate_interval", "10s")
        for board, panel in PANELS
        for target in [*panel["targets"], *board["annotations"]["list"]]
    }
    assert not any("$" in expression for expression in left)
    assert len(left) > 40
    with running(LOG_LEVEL="error", MAX_CONCURRENCY="1", MAX_QUEUE="0") as service:
        service.wait()
        file = tmp_path / "prometheus.yml"
        file.write_text(config.replace("app:8080", f"127.0.0.1:{service.port}"))
        with monitoring.prometheus(file, tmp_path) as url, little_traffic(service):
            jobs = f"{url}/api/v1/label/job/values"

            def all_have_series() -> bool:
                left.difference_update([expression for expression in left if has_series(url, expression)])
                return not left

            with contextlib.suppress(AssertionError):
                until(all_have_series)
            assert not left
            assert tools.ask(jobs, **{"match[]": "predictions_workers"})["data"] == ["cats-vs-dogs"]
            rejected = "sum(predictions_rejected_total{reason='queue_full'}) > 0"
            assert tools.query(url, rejected), "there was not enough traffic"


def has_series(url: str, expression: str) -> bool:
    """Return whether there are series, and not only NaN."""
    values = [float(series["value"][1]) for series in tools.query(url, expression)]
    return bool(values) and not all(math.isnan(value) for value in values)
