"""Other ways to collect the metrics: a public HTTPS URL with a token, and a Pushgateway."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import yaml

from scripts.common import monitoring
from scripts.common.process import free_port
from tests.conftest import needs
from tests.helpers import monitoring_tools as tools
from tests.helpers.paths import ROOT
from tests.helpers.service import running
from tests.helpers.tls import certificate, terminator
from tests.helpers.waiting import until

CAT = (ROOT / "tests" / "photos" / "cat.jpg").read_bytes()
CATS = 'predictions_total{label="cat"}'
ALERTS = yaml.safe_load((ROOT / "monitoring" / "rules" / "alerts.yml").read_text())["groups"]


def configured(folder: Path, name: str, **changes: str) -> Path:
    """Write a configuration to a folder, with the user's changes and shorter intervals."""
    shutil.copytree(ROOT / "monitoring" / "rules", folder / "rules")
    text = (ROOT / "monitoring" / name).read_text()
    for old, new in {"15s": "500ms", **changes}.items():
        assert old in text
        text = text.replace(old, new)
    file = folder / name
    file.write_text(text)
    return file


def wait_for(url: str, expression: str, holds: Callable[[float], bool]) -> None:
    def right() -> bool:
        values = [float(series["value"][1]) for series in tools.query(url, expression)]
        return bool(values) and all(map(holds, values))

    until(right)


def pending(url: str) -> set[str]:
    """Return the alerts that fire if this state lasts."""
    rules = [rule for group in ALERTS if group["name"] != "monitoring" for rule in group["rules"]]
    return {rule["alert"] for rule in rules if tools.query(url, rule["expr"])}


def errors(url: str) -> list[str]:
    """Return why the service could not be scraped."""
    targets = tools.ask(f"{url}/api/v1/targets")["data"]["activeTargets"]
    return [target["lastError"] for target in targets if target["labels"]["job"] == "cats-vs-dogs"]


@needs("prometheus")
def test_a_public_url_with_a_token(tmp_path):
    """A second Prometheus does not trust the certificate and gets nothing."""
    pem = certificate(tmp_path)
    token, right = (tmp_path / name / "secrets" / "metrics_token" for name in ("trusts", "doubts"))
    for file, text in ((token, "wrong\n"), (right, "sesame\n")):
        file.parent.mkdir(parents=True)
        file.write_text(text)
    with (
        running(LOG_LEVEL="error", METRICS_TOKEN="sesame") as service,
        terminator(service.port, pem) as port,
    ):
        service.wait()
        address = {"service.example.org": f"127.0.0.1:{port}"}
        configs = [
            configured(tmp_path / name, "prometheus-public.yml", **address) for name in ("trusts", "doubts")
        ]
        with (
            monitoring.prometheus(configs[0], tmp_path / "trusts", SSL_CERT_FILE=str(pem)) as url,
            monitoring.prometheus(configs[1], tmp_path / "doubts") as doubting,
        ):
            service.predict(CAT)
            wait_for(url, 'up{job="cats-vs-dogs"}', lambda value: value == 0)
            until(lambda: errors(url) == ["server returned HTTP status 401 UNAUTHORIZED"])
            assert "ServiceDown" in pending(url)
            token.write_text("sesame\n")  # read for every scrape
            wait_for(url, 'up{job="cats-vs-dogs"}', lambda value: value == 1)
            wait_for(url, CATS, lambda value: value == 1)
            wait_for(url, "predict:requests:rate5m", lambda value: value >= 0)
            until(lambda: pending(url) == set())
            wait_for(doubting, 'up{job="cats-vs-dogs"}', lambda value: value == 0)
            until(lambda: "certificate" in errors(doubting)[0])


@needs("prometheus", "prometheus-pushgateway")
def test_metrics_that_are_pushed(tmp_path):
    gateway = f"127.0.0.1:{free_port()}"
    command = ["prometheus-pushgateway", f"--web.listen-address={gateway}"]
    config = configured(tmp_path, "prometheus-push.yml", **{"pushgateway:9091": gateway})
    with (
        monitoring.process(command, f"http://{gateway}", tmp_path / "gateway.log") as pushed,
        monitoring.prometheus(config, tmp_path) as url,
        running(LOG_LEVEL="error", METRICS_PUSH_URL=pushed, METRICS_PUSH_SECONDS="1") as service,
    ):
        service.wait()
        service.predict(CAT)
        wait_for(url, CATS, lambda value: value == 1)
        (series,) = tools.query(url, f"last_over_time({CATS}[5m])")
        assert series["metric"]["job"] == "cats-vs-dogs"
        assert len(series["metric"]["instance"]) == 12
        within = 'http_request_duration_seconds_bucket{le="1.0", route="/predict"}'  # as the rules read it
        (series,) = tools.query(url, f"last_over_time({within}[5m])")
        assert series["value"][1] == "1"
        wait_for(url, "changes(push_time_seconds[5m])", lambda value: value > 0)
        until(lambda: pending(url) == set())
        assert service.end(signal.SIGTERM)[0] == 0
        until(lambda: not tools.query(url, CATS))
        assert "ServiceDown" in pending(url)
