"""Canaries with real services, HAProxy and Prometheus, in seconds instead of minutes."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import flow
from deploy.canary.options import PROMOTE, Options
from deploy.canary.reader import Reader
from deploy.smoke import SmokeTest
from ml.model.partial import sha256_of
from monitoring.client import Prometheus
from tests.conftest import needs
from tests.helpers.model_copies import same, swapped
from tests.helpers.paths import ROOT
from tests.helpers.two_versions import SCRAPE_S, Processes, prometheus, traffic
from tests.helpers.waiting import until

pytestmark = needs("haproxy", "prometheus")
PHOTOS = {label: [(ROOT / "tests" / "photos" / f"{label}.jpg").read_bytes()] for label in ("cat", "dog")}


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Processes]:
    """The champion serves."""
    with contextlib.ExitStack() as ending:
        processes = Processes(tmp_path, ending)
        processes.stage(str(same(tmp_path / "v1.pt")), {})
        yield processes


@pytest.fixture
def options(target: Processes, tmp_path: Path) -> Iterator[Options]:
    with prometheus(tmp_path, target.targets) as url:
        yield Options(
            shares=(10, 50),
            step_s=8,
            look_s=SCRAPE_S,
            prometheus=url,
            token="",
            job="cats-vs-dogs",
            least=20,
            too_little=PROMOTE,  # the machine may be busy
            alpha=0.01,
            # Two photos in turn, on a busy machine: labels alternate, and latency says nothing.
            tolerances={"slow": 0.9, "labels": 0.2, "unsure": 0.5},
            report=tmp_path / "report.md",
        )


@pytest.fixture
def smoke(tmp_path: Path) -> SmokeTest:
    """A model with swapped classes passes it, as it passes the health checks."""
    script = tmp_path / "smoke.sh"
    script.write_text('curl --silent --fail "$1/ready"')
    return SmokeTest(script, 60, 0.1)


def deploy(target: Processes, smoke: SmokeTest, options: Options, model: Path) -> int:
    prometheus_knows(options)
    changes = {"MODEL_SHA256": sha256_of(model)}
    return flow.deploy(target, smoke, str(model), changes, dry_run=False, canary=options)


def prometheus_knows(options: Options) -> None:
    reader = Reader(Prometheus(options.prometheus, "", 10), options.job, "none", 1)
    until(lambda: reader.instances() > 0)


def test_a_model_that_swaps_labels_is_taken_back_at_10_percent(target, smoke, options, tmp_path, capsys):
    champion, options = target.live, dataclasses.replace(options, step_s=120)  # it ends long before
    with traffic(target.url, PHOTOS, feedback=True):
        code = deploy(target, smoke, options, swapped(tmp_path / "swapped.pt"))
    output = capsys.readouterr()
    assert code == flow.REJECTED, output
    assert "feedback (answers that users judged wrong): 100.00 % of" in output.err
    assert target.live is champion
    assert target.shares() == [100]
    report = (tmp_path / "report.md").read_text()
    assert "### Canary: feedback (answers that users judged wrong): 100.00 % of" in report
    assert "**10 % of the traffic**" in report
    assert "**50 % of the traffic**" not in report
    assert "| feedback | 0.00 % of" in report
    assert report.count("**harm**") >= 1


def test_a_model_as_good_as_the_champion_is_promoted(target, smoke, options, tmp_path, monkeypatch, capsys):
    champion, summary = target.live, tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    with traffic(target.url, PHOTOS, feedback=True):
        code = deploy(target, smoke, options, same(tmp_path / "v2.pt"))
    assert code == flow.DONE, capsys.readouterr()
    assert target.live is not champion
    assert target.shares() == [100]
    report = (tmp_path / "report.md").read_text()
    assert report.startswith("### Canary: no harm was found")
    assert "**50 % of the traffic**" in report
    assert "**harm**" not in report
    last = report.rpartition("**50 % of the traffic**")[2]
    for metric in ("errors", "slow", "label cat", "label dog", "unsure", "feedback"):
        assert f"| {metric} | " in last
    assert "| slow | 100.00 %" not in last  # the bound of the histogram was found
    assert "| none |" not in last
    assert report in summary.read_text()
