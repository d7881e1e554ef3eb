"""The service's report, from a Prometheus that scrapes the real service and from stand-ins."""

import contextlib
import dataclasses
import functools
import io
import re
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

import monitoring.client
from scripts.common.monitoring import prometheus
from scripts.common.process import free_port
from scripts.common.web import RequestError
from scripts.report import main
from scripts.reporting.prometheus import Period, Source
from tests.conftest import BLUE, RED, coloured, encode, needs
from tests.helpers import chromium
from tests.helpers.endpoint import Reply, Sent, endpoint
from tests.helpers.http_server import file_server
from tests.helpers.monitoring_tools import query
from tests.helpers.paths import ROOT
from tests.helpers.service import running
from tests.helpers.waiting import HANG_S, until

COMMAND = (sys.executable, "-m", "scripts.report")
TITLES = [
    "Traffic",
    "Objectives",
    "Latency",
    "Rejected requests",
    "Starts",
    "Alerts",
    "Model versions",
    "Label share",
    "Confidence",
    "Drift",
    "Feedback accuracy",
]

BEFORE = r'<p class="before">[^<]*</p>|<td>unknown</td></tr>'
"""What the section says of the period before."""


def report(url: str, out: Path, *arguments: object, code: int = 0, **env: str) -> tuple[str, str]:
    """Run the command in this process; return the page, and what was printed."""
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        for name, value in env.items():
            patch.setenv(name, value)
        try:
            returned = main([url, "--out", str(out), *map(str, arguments)])
        except SystemExit as end:  # argparse rejects the arguments
            returned = int(end.code or 0)
    assert returned == code, printed.getvalue()
    return out.read_text() if out.exists() else "", printed.getvalue()


def sections(page: str) -> dict[str, str]:
    parts = re.findall(r"<section .*?</section>", page, re.DOTALL)
    return {re.search(r"<h2>(.*)</h2>", part)[1]: part for part in parts}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, colour in (("red", RED), ("blue", BLUE)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(5):
            photo = encode(coloured(colour, seed=number))
            (tmp_path / "photos" / name / f"{number}.jpg").write_bytes(photo)
    return tmp_path / "photos"


REFERENCE = {
    "labels": {"red": 0.6, "blue": 0.4},
    "brightness": {"0.1": 0.1, "0.2": 0.2, "0.3": 0.9, "0.4": 1.0},
    "confidence": {"0.5": 0.0, "0.9": 0.5},
    "aspect_ratio": {"0.5": 0.1, "1.9": 0.9},
    "short_side_pixels": {"32.0": 0.1, "64.0": 0.5, "112.0": 0.9},
}


@pytest.fixture
def watched(photos: Path, make_model: Callable[..., Path], tmp_path: Path) -> Iterator[tuple[str, float]]:
    """A Prometheus with the repository's rules, after traffic, a burst and a new model; when this began."""
    began = time.time()
    (tmp_path / "rules").mkdir()
    for file in (ROOT / "monitoring" / "rules").glob("*.yml"):
        # Alerts fire at once.
        (tmp_path / "rules" / file.name).write_text(re.sub(r"for: \d+[mh]", "for: 0s", file.read_text()))
    figures = {"accuracy": 0.98, "accuracy_low": 0.97}
    models = [make_model(f"{v}.pt", version=v, metrics=figures, reference=REFERENCE) for v in ("v1", "v2")]
    port = str(free_port())
    settings = {"PORT": port, "MAX_CONCURRENCY": "1", "MAX_QUEUE": "2", "LOG_LEVEL": "error"}
    watch = {"job_name": "cats-vs-dogs", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    config = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": ["rules/*.yml"],
        "scrape_configs": [watch],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))

    def traffic(*options: object) -> None:
        command = [sys.executable, "-m", "scripts.traffic", f"http://127.0.0.1:{port}", photos]
        command += ["--seconds", 2, *options]
        subprocess.run(list(map(str, command)), check=True, timeout=HANG_S, stdout=subprocess.DEVNULL)

    with running(MODEL_URL=models[0].as_uri(), **settings) as service:
        service.wait()
        with prometheus(tmp_path / "prometheus.yml", tmp_path) as url:
            # A browser asks whether it may send, which counts for no share.
            predict = f"http://127.0.0.1:{port}/predict"
            requests.options(predict, timeout=HANG_S)
            until(lambda: query(url, 'http_requests_total{method="OPTIONS"}'))
            for _ in range(50):
                requests.options(predict, timeout=HANG_S)
            traffic("--rate", 20, "--feedback", 1)
            traffic("--mode", "burst", "--rate", 40)
            until(lambda: query(url, 'ALERTS{alertname="PredictRefusing", alertstate="firing"}'))
            # Of shape and size, only with 200 photos.
            until(lambda: len(query(url, "model:drift:1h")) >= 3 and query(url, "feedback:accuracy:1d"))
            service.end()
            with running(MODEL_URL=models[1].as_uri(), **settings) as again:
                again.wait()
                until(lambda: query(url, 'model_info{version="v2"} offset 2s'))  # a point of the charts
                yield url, began


@needs("prometheus")
def test_a_period_of_the_real_service(watched: tuple[str, float], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    url, began = watched
    hours = (time.time() - began + 60) / 3600  # and a minute in which the report starts
    command = [*COMMAND, url, "--out", str(out), "--hours", str(hours)]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=True).stdout
    assert printed == f"{out}\n"
    page = out.read_text()
    found = sections(page)
    assert list(found) == TITLES
    for title, part in found.items():
        assert "<svg " in part, title
        assert "unknown" not in re.sub(BEFORE, "", part), title
        assert re.search(r'role="img" aria-label="\w.{30,}"', part), title
        assert "<td>" in part or title == "Confidence"
    answered = {title: re.search(r'<p class="figure[^>]*>([^<]*)', part)[1] for title, part in found.items()}
    shares = re.findall(r"<td>\d{3}</td><td>[^<]*</td><td>([\d.]+) %", found["Traffic"])
    assert 0 < sum(map(float, shares)) < 101  # rounded; the rest have disconnected, and got no status
    assert answered["Starts"] == "2 starts"
    assert answered["Model versions"] == "2 versions"
    assert answered["Feedback accuracy"].startswith("100.0 % (")
    assert int(answered["Rejected requests"].split()[0]) > 0
    assert ">PredictRefusing, page<" in found["Alerts"]
    assert float(answered["Objectives"].removeprefix("burn rate ")) > 14.4
    assert re.search(r"<td>brightness</td><td>1.000</td>", found["Drift"])
    assert "<td>red</td>" in found["Label share"]
    assert "60.00 %" in found["Label share"]

    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 100
    assert "://" not in page
    assert "<script" not in page
    check_in_browser(tmp_path)


def check_in_browser(folder: Path) -> None:
    """Check that a browser draws every chart in both color schemes, without errors."""
    with file_server(folder) as server, chromium.launched() as browser:
        for scheme in ("light", "dark"):
            with chromium.opened(browser, server.server_port, "/report.html", color_scheme=scheme) as page:
                boxes = [chart.bounding_box() for chart in page.get_by_role("img").all()]
                ink, back = page.evaluate(
                    "['svg text', 'body'].map((it, i) => getComputedStyle(document.querySelector(it))"
                    "[['fill', 'backgroundColor'][i]])"
                )
            assert len(boxes) == len(TITLES)
            assert all(box["width"] > 500 and box["height"] > 50 for box in boxes)
            dark, light = "rgb(22, 25, 28)", "rgb(255, 255, 255)"
            assert back == {"light": light, "dark": dark}[scheme]
            assert ink == {"light": "rgb(29, 33, 37)", "dark": "rgb(228, 231, 234)"}[scheme]


def answer(result: list[dict[str, Any]]) -> Reply:
    return Reply(content={"status": "success", "data": {"resultType": "matrix", "result": result}})


def asked(sent: Sent) -> dict[str, str]:
    return {name: values[0] for name, values in urllib.parse.parse_qs(sent.body.decode()).items()}


def test_hostile_and_broken_values(tmp_path: Path) -> None:
    hostile = '<script>alert("$x$")</script>\n$\\frac{1}{$'

    def reply(sent: Sent) -> Reply:
        query = asked(sent)
        metric = dict.fromkeys(("label", "status", "reason", "statistic", "name", "figure"), hostile)
        if sent.path == "/query":
            return answer(
                [{"metric": metric, "value": [0, "7"]}, {"metric": {"label": "x"}, "value": [0, "NaN"]}]
            )
        start, step = int(query["start"]), int(query["step"])
        values = ["1", "2", "NaN", "+Inf", "3", "4", "-Inf", "5", "oh"]
        return answer(
            [{"metric": metric, "values": [[start + step * n, text] for n, text in enumerate(values)]}]
        )

    with endpoint(
        lambda sent: reply(dataclasses.replace(sent, path=sent.path.removeprefix("/p/api/v1")))
    ) as (
        url,
        seen,
    ):
        page, _ = report(f"{url}/p/", tmp_path / "report.html", PROMETHEUS_TOKEN="the-token")
    assert {sent.headers["authorization"] for sent in seen} == {"Bearer the-token"}
    assert {sent.path for sent in seen} == {"/p/api/v1/query", "/p/api/v1/query_range"}
    assert all(
        'job="cats-vs-dogs"' in asked(sent)["query"] for sent in seen[1:]
    )  # the first query checks the connection
    assert "the-token" not in page
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page
    traffic = sections(page)["Traffic"]
    line = max(re.findall(r'<path d="([^"]*)"[^>]*stroke: #3b8bd4', traffic), key=len)
    assert line.count("M") == 3  # 1, 2; 3, 4; 5, which no line shows
    assert re.search(r"<use [^>]*fill: #3b8bd4", traffic)


def test_a_period_without_data(tmp_path: Path) -> None:
    nan = {"metric": {}, "values": [[0, "NaN"]]}
    with endpoint(lambda sent: answer([nan] if "range" in sent.path else [])) as (url, _):
        page, printed = report(url, tmp_path / "report.html", "--job", "another")
    assert "warning: Prometheus has no data of job another in this period" in printed
    found = sections(page)
    assert list(found) == TITLES
    assert all("There is nothing to draw" in part for part in found.values())
    for title, part in found.items():
        assert '<p class="figure">unknown</p>' in part, title
        assert '<p class="before">Before: unknown</p>' in part, title
        prose = re.sub(
            r"30 days|[\d.]+ %( interval|\.)|0 \(equal\) to 1|0\.25 and 200|slower than 1 s|which is 0.00 %",
            "",
            part,
        )
        assert not re.search(r"\b0 |\b0\.00", re.sub(r"<[^>]*>", "", prose)), title
    assert "nan" not in re.sub(r"<style.*</style>", "", page, flags=re.DOTALL)


def test_the_period_before_is_shown_beside_this_one(tmp_path: Path) -> None:
    """In the period, 30 requests got 200 and none 422; before it 100 and 7."""
    asked_at: set[int] = set()
    counts = {True: {"200": 30}, False: {"200": 100, "422": 7}}

    def reply(sent: Sent) -> Reply:
        query = asked(sent)
        if "range" in sent.path:
            return answer([])
        asked_at.add(int(query["time"]))
        now = int(query["time"]) == max(asked_at)
        if query["query"].startswith("sum by (status) (increase(http_requests_total"):
            values = counts[now]
            return answer([{"metric": {"status": s}, "value": [0, str(n)]} for s, n in values.items()])
        if query["query"].startswith('sum(increase(http_requests_total{job="cats-vs-dogs", method='):
            return answer([{"metric": {}, "value": [0, str(sum(counts[now].values()))]}])
        if query["query"].startswith("sum by (reason)"):
            return answer([{"metric": {"reason": "timeout"}, "value": [0, "0"]}] if now else [])
        return answer([])

    with endpoint(reply) as (url, _):
        page, _ = report(url, tmp_path / "report.html", "--hours", 24)
    assert max(asked_at) - min(asked_at) == 24 * 3600
    found = {title: re.sub(r"\s+", " ", part) for title, part in sections(page).items()}
    assert '<p class="figure">30 requests</p>' in found["Traffic"]
    assert '<p class="before">Before: 107 requests</p>' in found["Traffic"]
    assert "<td>200</td><td>30</td><td>100.00 %</td><td>100</td>" in found["Traffic"]
    assert "<td>422</td><td>0</td><td>0.00 %</td><td>7</td>" in found["Traffic"]
    assert "<td>timeout</td><td>0</td><td>unknown</td>" in found["Rejected requests"]
    assert '<p class="figure">0 requests</p>' in found["Rejected requests"]
    assert '<p class="before">Before: unknown</p>' in found["Rejected requests"]


def test_no_alert_is_known_only_if_the_rules_were_evaluated(tmp_path: Path) -> None:
    def reply(sent: Sent) -> Reply:
        known = "predict:requests:rate5m" in asked(sent)["query"] and "range" not in sent.path
        return answer([{"metric": {}, "value": [0, "1"]}] if known else [])

    with endpoint(reply) as (url, _):
        page, _ = report(url, tmp_path / "report.html")
    assert "0 alerts fired" in sections(page)["Alerts"]


def test_time_without_scrapes_is_not_counted_as_down(tmp_path: Path) -> None:
    """Half of the period has no sample, a quarter is up and a quarter is down."""

    def reply(sent: Sent) -> Reply:
        query = asked(sent)
        if "range" not in sent.path or "(up{" not in query["query"]:
            return answer([])
        start, step = int(query["start"]), int(query["step"])
        values = [[start + step * n, "1" if n < 60 else "0"] for n in range(120)]
        return answer([{"metric": {}, "values": values}])

    with endpoint(reply) as (url, _):
        page, _ = report(url, tmp_path / "report.html")
    starts = re.sub(r"\s+", " ", sections(page)["Starts"])
    assert "At least one instance up: 50.00 % of the time for which Prometheus has data" in starts
    assert "which is 49.79 % of the period" in starts


def test_errors_of_prometheus(tmp_path: Path) -> None:
    def failing(*replies: Reply) -> Callable[[Sent], Reply]:
        rest = iter(replies)
        return lambda _: next(rest, answer([]))

    bad_query = Reply(400, {"status": "error", "errorType": "bad_data", "error": "parse\nerror"})
    for replies, message in (
        ([bad_query], "/api/v1/query: parse error"),
        ([Reply(401)], "PROMETHEUS_TOKEN"),
        ([Reply(200, {"data": 1})], "not an answer of Prometheus"),
        (
            [Reply(302, headers={"Location": "/elsewhere"})],
            "status 302, which is not an answer of Prometheus",
        ),
        ([Reply(503)] * 99, "status 503"),
    ):
        with endpoint(failing(*replies)) as (url, seen):
            page, printed = report(url, tmp_path / "report.html", code=1)
        assert printed.startswith("error: ")
        assert printed.count("\n") == 1
        assert message in printed
        assert not page
        assert len(seen) == (3 if len(replies) > 1 else 1)
    with endpoint(failing(Reply(503), Reply(0))) as (url, _):
        assert report(url, tmp_path / "report.html", "--hours", 24 * 30)[0]
    for arguments in (("--hours", 0), ("--hours", "nan"), ("--job", 'x"}'), ("--timeout", -1)):
        assert "error: " in report("http://127.0.0.1:1", tmp_path / "none", *arguments, code=2)[1]


def test_an_address_where_nothing_listens_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    impatient = functools.partial(monitoring.client.session, wait=pauses.append)
    monkeypatch.setattr(monitoring.client, "session", impatient)
    source = Source(f"http://127.0.0.1:{free_port()}", "", "job", Period.before(0, 1), 60)
    with pytest.raises(RequestError, match=r"no answer after 3 attempts \(ConnectionError\)") as error:
        source.value("vector(1)")
    assert "\n" not in str(error.value)
    assert len(pauses) == 2
    assert sum(pauses) < 5


def test_something_that_never_answers_is_given_up_soon() -> None:
    """It accepts connections, as a port does behind which a program hangs. An answer may take a minute."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        source = Source(url, "", "job", Period.before(0, 1), 3600)
        with pytest.raises(RequestError, match=r"no answer within 0.2 s; is this the URL of Prometheus\?"):
            source.check(0.2)


@pytest.mark.parametrize(
    ("url", "token", "message"),
    [
        ("localhost:9090", "", "http://"),
        ("http://", "", "http://"),
        ("http://me:secret@localhost", "", "without user and password"),
        ("http://localhost:nine", "", "http://"),
        ("http://localhost", "a\nb", "PROMETHEUS_TOKEN"),
        ("http://localhost", "ä", "PROMETHEUS_TOKEN"),
    ],
)
def test_a_url_or_token_that_can_not_be_sent_is_named(url: str, token: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as error:
        Source(url, token, "job", Period.before(0, 1), 60)
    assert "secret" not in str(error.value)


def test_objectives_and_thresholds_are_those_of_the_alerts() -> None:
    alerts = (ROOT / "monitoring" / "rules" / "alerts.yml").read_text()
    service = (ROOT / "scripts" / "reporting" / "service.py").read_text()
    allowed = dict(re.findall(r"predict:(\w+)_ratio:rate3d > ([\d.]+)", alerts))
    assert re.search(r"OBJECTIVES = (\{.*\})", service)[1] == str(
        {name: float(share) for name, share in allowed.items()}
    ).replace("'", '"')
    distance, count = re.search(r"model:drift:1h > ([\d.]+) and .* model:photos:1h >= (\d+)", alerts).groups()
    model = (ROOT / "scripts" / "reporting" / "model.py").read_text()
    assert f"DRIFT_ALLOWED = {distance}\n" in model
    assert f"DRIFT_PHOTOS = {count}\n" in model
