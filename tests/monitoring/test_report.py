"""The report of a period: of a real Prometheus that watches the real service, and of one with little to tell."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.app import chromium
from tests.app.service import ROOT, running
from tests.conftest import BLUE, RED, coloured, encode
from tests.endpoint import Reply, Sent, endpoint
from tests.monitoring.tools import needs, prometheus, query, until

SCRIPT = ROOT / "scripts" / "report.py"
TITLES = [
    "Traffic",
    "Objectives",
    "Latency",
    "Refusals",
    "Starts",
    "Alerts",
    "Model versions",
    "Label share",
    "Confidence",
    "Drift",
    "Feedback accuracy",
]


def report(url: str, out: Path, *arguments: object, code: int = 0, **env: str) -> tuple[str, str]:
    """The page, and what is printed."""
    command = [sys.executable, SCRIPT, url, "--out", out, *arguments]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=120, env=os.environ | env
    )
    assert done.returncode == code, done.stdout + done.stderr
    return out.read_text() if out.exists() else "", done.stdout + done.stderr


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
def watched(photos: Path, make_model: Callable[..., Path], tmp_path: Path) -> Iterator[str]:
    """A Prometheus with this repository's rules that has watched the service through traffic and a burst."""
    (tmp_path / "rules").mkdir()
    for file in (ROOT / "monitoring" / "rules").glob("*.yml"):
        # Alerts at once instead of after a while.
        (tmp_path / "rules" / file.name).write_text(re.sub(r"for: \d+[mh]", "for: 0s", file.read_text()))
    model = make_model(metrics={"accuracy": 0.98, "accuracy_low": 0.97}, reference=REFERENCE)
    settings = {"MODEL_URL": model.as_uri(), "MAX_CONCURRENCY": "1", "MAX_QUEUE": "2", "LOG_LEVEL": "error"}
    with running(**settings) as service:
        service.wait()
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules/*.yml"],
            "scrape_configs": [
                {
                    "job_name": "cats-vs-dogs",
                    "static_configs": [{"targets": [f"127.0.0.1:{service.port}"]}],
                }
            ],
        }
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        with prometheus(tmp_path / "prometheus.yml", tmp_path) as url:
            until(lambda: query(url, "http_requests_total"))
            for options in (("--rate", "20", "--feedback", "1"), ("--mode", "burst", "--rate", "40")):
                command = [sys.executable, ROOT / "scripts" / "traffic.py"]
                command += [f"http://127.0.0.1:{service.port}", photos, "--seconds", "3", *options]
                subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL)
            until(lambda: query(url, 'ALERTS{alertname="PredictRefusing", alertstate="firing"}'))
            until(lambda: len(query(url, "model:drift:1h")) == 5 and query(url, "feedback:accuracy:1d"))
            yield url


@needs("prometheus")
def test_a_real_period(watched: str, tmp_path: Path) -> None:
    page, told = report(watched, tmp_path / "report.html", "--hours", 0.02)
    assert told == f"{tmp_path / 'report.html'}\n"
    found = sections(page)
    assert list(found) == TITLES
    for title, part in found.items():
        assert "<svg " in part, title
        assert "no data" not in part, title
        assert re.search(r'role="img" aria-label="\w.{30,}"', part), title
        assert re.search(r"<td>", part) or title == "Confidence"
    if target := os.environ.get("KEEP"):
        shutil.copy(tmp_path / "report.html", target)
