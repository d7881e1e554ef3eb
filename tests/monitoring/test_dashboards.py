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

from tests.conftest import REQUIRE_ALL, needs
from tests.helpers import monitoring_tools as tools
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, running
from tests.helpers.waiting import HANG_S, until

GRAFANA = ROOT / "monitoring" / "grafana"
BOARDS = {file.name: json.loads(file.read_text()) for file in (GRAFANA / "dashboards").glob("*.json")}
PANELS = [(board, panel) for board in BOARDS.values() for panel in board["panels"] if panel["type"] != "row"]
CAT = (ROOT / "tests" / "photos" / "cat.jpg").read_bytes()


def test_the_files_match_the_code():
    if not REQUIRE_ALL:
        pytest.importorskip("grafana_foundation_sdk")
    from monitoring.dashboards.__main__ import FOLDER, texts

    for name, text in texts().items():
        assert (FOLDER / name).read_text() == text, f"{name} is out of date; run make dashboards"
    assert set(texts()) == set(BOARDS) == {"service.json", "model.json"}


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


def test_no_panels_overlap():
    for board in BOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert place["x"] + place["w"] <= 24
            assert not cells & taken, panel["title"]
            taken |= cells


def test_the_drift_threshold_is_the_alert_threshold():
    rules = (ROOT / "monitoring" / "rules" / "alerts.yml").read_text()
    (threshold,) = set(re.findall(r"model:drift:\w+ > ([\d.]+)", rules))
    drift = [panel for _, panel in PANELS if "model:drift" in panel["targets"][0]["expr"]]
    assert len(drift) == 2
    for panel in drift:
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"] == float(threshold)


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
        target["expr"].replace("$job", "cats-vs-dogs").replace("$__rate_interval", "10s")
        for board, panel in PANELS
        for target in [*panel["targets"], *board["annotations"]["list"]]
    }
    assert not any("$" in expression for expression in left)
    assert len(left) > 40
    with running(LOG_LEVEL="error", MAX_CONCURRENCY="1", MAX_QUEUE="0") as service:
        service.wait()
        file = tmp_path / "prometheus.yml"
        file.write_text(config.replace("app:8080", f"127.0.0.1:{service.port}"))
        with tools.prometheus(file, tmp_path) as url, little_traffic(service):
            jobs = f"{url}/api/v1/label/job/values"

            def all_have_series() -> bool:
                left.difference_update([expression for expression in left if has_series(url, expression)])
                return not left

            with contextlib.suppress(AssertionError):
                until(all_have_series)
            assert not left
            assert tools.ask(jobs, **{"match[]": "predictions_slots"})["data"] == ["cats-vs-dogs"]
            rejected = "sum(predictions_rejected_total{reason='queue_full'}) > 0"
            assert tools.query(url, rejected), "there was not enough traffic"


def has_series(url: str, expression: str) -> bool:
    """Return whether there are series, and not only NaN."""
    values = [float(series["value"][1]) for series in tools.query(url, expression)]
    return bool(values) and not all(math.isnan(value) for value in values)
