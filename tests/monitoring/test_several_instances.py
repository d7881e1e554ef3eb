"""Several instances: Prometheus, the rules and the report add them up; feedback reaches another one."""

import json
import math
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from scripts.common.monitoring import prometheus
from tests.conftest import needs
from tests.helpers.monitoring_tools import query
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, running
from tests.helpers.waiting import HANG_S, until
from tests.monitoring.test_report import report, sections

CAT = (ROOT / "tests" / "photos" / "cat.jpg").read_bytes()
PHOTOS, BROKEN = (12, 6, 3), (0, 6, 1)
"""Photos, and files that are none, that each instance gets."""
SECRET = "the-same-for-all-instances"


def post(service: Service, path: str, body: bytes, media_type: str) -> tuple[int, dict]:
    url = f"http://127.0.0.1:{service.port}{path}"
    request = urllib.request.Request(url, body, {"Content-Type": media_type})
    try:
        with urllib.request.urlopen(request, timeout=HANG_S) as response:
            return response.status, json.loads(response.read() or "{}")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def feedback(service: Service, prediction: dict, actual: str) -> tuple[int, dict]:
    document = {"predicted": prediction["label"], "actual": actual, "request_id": prediction["request_id"]}
    return post(service, "/feedback", json.dumps(document).encode(), "application/json")


def started(stack: ExitStack, number: int, **env: str) -> list[Service]:
    services = [stack.enter_context(running(LOG_LEVEL="error", **env)) for _ in range(number)]
    for service in services:
        service.wait()
    return services


def value(url: str, expression: str) -> float:
    """The only value of a query; NaN if there is none, as after a scrape that took too long."""
    values = [float(series["value"][1]) for series in query(url, expression)]
    assert len(values) < 2
    return values[0] if values else math.nan


def becomes(url: str, expression: str, expected: float, rel: float = 1e-9) -> None:
    seen: list[float] = []

    def right() -> bool:
        seen.append(value(url, expression))
        return seen[-1] == pytest.approx(expected, rel=rel)

    until(right, f"{expression} never became {expected}")


def judged(service: Service) -> float:
    return sum(map(float, re.findall(r"^feedback_judged_total\{.*\} (.*)$", service.metrics(), re.MULTILINE)))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[tuple[list[Service], str]]:
    """Three instances, and a Prometheus with the repository's rules that scrapes each of them."""
    shutil.copytree(ROOT / "monitoring" / "rules", tmp_path / "rules")
    with ExitStack() as stack:
        services = started(stack, 3, FEEDBACK_SECRET=SECRET)
        targets = [f"127.0.0.1:{service.port}" for service in services]
        config = {
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
            "rule_files": ["rules/*.yml"],
            "scrape_configs": [{"job_name": "cats-vs-dogs", "static_configs": [{"targets": targets}]}],
        }
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        yield services, stack.enter_context(prometheus(tmp_path / "prometheus.yml", tmp_path))


@needs("prometheus")
def test_totals_shares_quantiles_and_the_report_add_up(
    fleet: tuple[list[Service], str], tmp_path: Path
) -> None:
    services, url = fleet
    # An increase needs a sample from before.
    until(lambda: len(query(url, "predictions_workers and predictions_workers offset 3s")) == 3)
    answers = []
    for service, photos, broken in zip(services, PHOTOS, BROKEN, strict=True):
        for _ in range(photos):
            status, answer = post(service, "/predict", CAT, "image/jpeg")
            assert status == 200
            answers.append(answer)
        for _ in range(broken):
            assert post(service, "/predict", b"no photo", "image/jpeg")[0] == 415
    # Each prediction gets its feedback at an instance that may be another one than the one that made it.
    for number, answer in enumerate(answers):
        actual = "dog" if number % 7 == 0 else "cat"
        assert feedback(services[number % 3], answer, actual)[0] == 204
    photos, broken = sum(PHOTOS), sum(BROKEN)
    # Counters add up exactly. Windows extrapolate a little beyond the samples.
    becomes(url, "sum(feedback_judged_total)", photos)
    becomes(url, 'sum(http_requests_total{route="/predict"})', photos + broken)
    becomes(url, "sum(prediction_confidence_count)", photos)
    becomes(url, "predict:requests:rate5m * 300", photos + broken, 0.4)
    becomes(url, "model:photos:1h", photos, 0.4)
    share = broken / (photos + broken)
    becomes(url, 'predict:client_error_ratio:rate30m{status="415"}', share, 0.25)
    becomes(url, "feedback:accuracy:1d", 18 / 21, 0.1)
    for rule in ("predict:requests:rate5m", "predict:failure_ratio:rate5m", "predict:slow_ratio:rate5m"):
        (series,) = query(url, f"last_over_time({rule}[5m])")  # one about all instances
        assert set(series["metric"]) - {"__name__"} == {"job"}
    bucket = 'http_request_duration_seconds_bucket{route="/predict"}'
    bucket = f"sum by (le) (last_over_time({bucket}[1m]))"  # a scrape may come late
    expected = {}
    for share in (50, 99):
        until(lambda: query(url, bucket))
        expected[share] = value(url, f"histogram_quantile({share / 100}, {bucket})")

    # With fewer samples, an increase extrapolates too far.
    until(lambda: len(query(url, 'count_over_time(up{job="cats-vs-dogs"}[1m]) >= 10')) == 3)
    page, _ = report(url, tmp_path / "report.html", "--hours", "0.5")
    found = {title: re.sub(r"\s+", " ", part) for title, part in sections(page).items()}
    count = int(re.search(r'<p class="figure">(\d+) requests', found["Traffic"])[1])
    assert count == pytest.approx(photos + broken, rel=0.4)  # extrapolated, too
    rows = dict(re.findall(r"<td>(200|415)</td><td>(\d+)</td>", found["Traffic"]))
    assert int(rows["415"]) == pytest.approx(broken, rel=0.4)
    assert '<p class="figure">3 starts</p>' in found["Starts"]
    assert '<p class="figure">1 version</p>' in found["Model versions"]
    correct = int(re.search(r"<td>correct</td><td>(\d+)</td>", found["Feedback accuracy"])[1])
    assert correct == pytest.approx(18, rel=0.4)
    reported = dict(re.findall(r"<td>(50|99) %</td><td>([\d.]+ m?s)</td>", found["Latency"]))
    for share, seconds in expected.items():
        number, unit = reported[str(share)].split()
        assert float(number) / (1000 if unit == "ms" else 1) == pytest.approx(seconds, rel=0.3)


@needs("prometheus")
def test_one_instance_that_ends_is_not_all_of_them(fleet: tuple[list[Service], str]) -> None:
    services, url = fleet
    down = next(
        rule["expr"]
        for group in yaml.safe_load((ROOT / "monitoring" / "rules" / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
        if rule["alert"] == "ServiceDown"
    )

    def whose() -> set[str]:
        return {series["metric"].get("instance", "all") for series in query(url, down)}

    names = [f"127.0.0.1:{service.port}" for service in services]
    until(lambda: len(query(url, 'up{job="cats-vs-dogs"} == 1')) == 3)
    until(lambda: whose() == set())
    slots = [
        re.search(r"^predictions_workers (.*)$", service.metrics(), re.MULTILINE)[1] for service in services
    ]
    becomes(url, "sum by (job) (predictions_workers)", sum(map(float, slots)))
    services[1].end()
    until(lambda: whose() == {names[1]})
    for service in (services[0], services[2]):
        service.end()
    until(lambda: whose() == {*names, "all"})


def test_feedback_at_another_instance() -> None:
    """With the same secret it counts; each instance counts it once, because none knows of the others."""
    with ExitStack() as stack:
        one, other = started(stack, 2, FEEDBACK_SECRET=SECRET)
        prediction = one.predict(CAT)[1]
        assert [feedback(other, prediction, "cat")[0] for _ in range(3)] == [204] * 3
        assert (judged(one), judged(other)) == (0, 1)
        assert feedback(one, prediction, "cat")[0] == 204
        assert (judged(one), judged(other)) == (1, 1)


def test_feedback_at_another_instance_without_a_secret() -> None:
    with ExitStack() as stack:
        one, other = started(stack, 2)
        prediction = one.predict(CAT)[1]
        status, problem = feedback(other, prediction, "cat")
        assert status == 400
        assert "FEEDBACK_SECRET" in problem["detail"]
        assert feedback(one, prediction, "cat")[0] == 204
        assert (judged(one), judged(other)) == (1, 0)
