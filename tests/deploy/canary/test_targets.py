"""Canaries on Cloud Run and Kubernetes, against their stand-ins: traffic, promotion, rollback, kills.

There is no traffic here; --too-little says what follows from that.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.helpers import monitoring_tools
from tests.helpers.deploying import Deploying
from tests.helpers.paths import ROOT
from tests.helpers.places import IMAGE, NEW, NEW_URL, OLD_URL, Place
from tests.helpers.two_versions import prometheus
from tests.helpers.waiting import until
from tests.standins.instances import Front
from tests.standins.provider import Fault

pytestmark = needs("prometheus")
K8S = ROOT / "deploy" / "k8s"
OLD = ("old", OLD_URL)


@pytest.fixture(params=["cloud-run", pytest.param("kubernetes", marks=needs("kubectl"))])
def target(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Front, str]]:
    """A port that Prometheus scrapes, and Prometheus' URL: it takes 5 seconds to find a port."""
    folder: Path = tmp_path_factory.mktemp("prometheus")
    front, targets = Front(), folder / "targets.json"
    targets.write_text(json.dumps([{"targets": [front.url.removeprefix("http://")]}]))
    with prometheus(folder, targets) as url:
        yield front, url
    front.close()


@pytest.fixture
def canary(
    watched: tuple[Front, str], place: Place, deploy: Deploying, tmp_path: Path
) -> Iterator[tuple[str, ...]]:
    """The options of a canary of 2 seconds; Prometheus knows the previous version."""
    front, url = watched
    live = place.provider.live
    front.instance = (live() if callable(live) else live).instance
    if place.target == "kubernetes":
        overlay = tmp_path / "overlay"
        overlay.mkdir()
        layer = {
            "resources": [os.path.relpath(K8S / "overlays" / "kind", overlay)],
            "components": [os.path.relpath(K8S / "components" / "canary", overlay)],
        }
        (overlay / "kustomization.yaml").write_text(json.dumps(layer))
        deploy.options += ("--overlay", str(overlay))
    now = time.time()
    until(lambda: bool(monitoring_tools.query(url, f"timestamp(model_info) > {now}")))
    options = ("--canary", "10,50", "--minutes", "0.015", "--look", "0.3", "--prometheus", url)
    yield (*options, "--too-little", "promote")
    front.instance = None


def splits(place: Place) -> list[int]:
    """The shares that candidates have got, one after the other, without 0 and all."""
    if place.target == "kubernetes":
        shares = place.provider.splits
    else:
        bodies = [one.body for one in place.provider.seen if one.method == "PATCH"]
        tagged = [entry for body in bodies for entry in body["traffic"] if entry.get("tag") == "candidate"]
        shares = [int(entry.get("percent", 0)) for entry in tagged]
    return [share for share in shares if share not in (0, 100)]


def left(place: Place) -> bool:
    """Whether a candidate is left beside what serves."""
    if place.target == "kubernetes":
        return place.provider.candidate is not None or place.provider.weights != [100, 0]
    percents = [one.get("percent", 0) for one in place.provider.statuses]
    return sorted(percents)[-1] != 100 or "candidate" in place.provider.tags()


def test_promoted_after_10_and_50_percent(place, deploy, canary):
    done = deploy(*NEW, *canary)
    assert done.code == 0, done.output
    assert place.serves() == ("new", NEW_URL)
    assert splits(place) == [10, 50]
    assert not left(place)
    assert "too little traffic (0 predictions of the new version and " in done.summary
    assert "| deployed | http://127.0.0.1:" in done.summary


def test_rejected_without_traffic(place, deploy, canary, tmp_path):
    done = deploy(*NEW, *canary[:-1], "roll-back", "--report", str(tmp_path / "report.md"))
    assert done.code == 3, done.output
    assert place.serves() == OLD
    assert splits(place) == [10]
    assert not left(place)
    assert "failed (too little traffic: 0 predictions" in done.error
    report = (tmp_path / "report.md").read_text()
    assert "### Canary: too little traffic: 0 predictions of the new version and " in report
    assert report in done.summary


def killed_at_10_percent(place, deploy, canary) -> None:
    slow = [*canary]
    slow[slow.index("0.015")] = "5"
    process = deploy.begin(*NEW, *slow)
    assert deploy.cancel(process, lambda: splits(place) == [10], signal.SIGKILL).code == -9
    place.provider.gate.set()
    assert left(place)


def test_the_same_command_goes_on_after_a_kill(place, deploy, canary):
    killed_at_10_percent(place, deploy, canary)
    versions = place.versions()
    done = deploy(*NEW, *canary)
    assert done.code == 0, done.output
    assert " was cut off at 10 %: going on" in done.out
    assert splits(place)[-1] == 50
    assert place.serves() == ("new", NEW_URL)
    assert place.versions() - versions == (1 if place.target == "kubernetes" else 0)  # none was staged again
    assert not left(place)


@pytest.fixture
def killed_in_promote(place, deploy, canary) -> None:
    """A canary that was killed when the Deployment had its version already, and its pods were starting."""
    process = deploy.begin(*NEW, *canary)
    until(lambda: 50 in splits(place) or process.poll() is not None)
    place.provider.gate.clear()
    done = deploy.cancel(process, lambda: place.provider.wanted.image == NEW[1], signal.SIGKILL)
    assert done.code == -9
    place.provider.gate.set()


@pytest.mark.parametrize("target", [pytest.param("kubernetes", marks=needs("kubectl"))])
class TestKilledInPromote:
    """Only on Kubernetes does it take more than one step."""

    def test_the_same_command_goes_on(self, place, deploy, canary, killed_in_promote):
        done = deploy(*NEW, *canary)
        assert done.code == 0, done.output
        assert " was cut off at 100 %: going on" in done.out
        assert place.serves() == ("new", NEW_URL)
        assert not left(place)

    def test_a_failure_brings_the_version_before_back(
        self, place, deploy, canary, killed_in_promote, tmp_path
    ):
        smoke = tmp_path / "fails.sh"
        smoke.write_text("exit 1")
        done = deploy(*NEW, *canary, "--smoke-test", str(smoke))
        assert done.code == 2, done.output  # the smoke test of the version before fails too
        assert place.serves() == OLD
        assert not left(place)

    def test_another_command_takes_it_back(self, place, deploy, canary, killed_in_promote):
        done = deploy("--rollback")
        assert done.code == 0, done.output
        assert " was cut off at 100 %: taking it back" in done.out
        assert place.serves() == OLD
        assert not left(place)


def test_another_command_takes_the_canary_back(place, deploy, canary):
    killed_at_10_percent(place, deploy, canary)
    done = deploy("--image", f"{IMAGE}:other", "--dry-run")
    assert " was cut off at 10 %: it would be taken back" in done.out
    assert left(place)
    done = deploy("--image", f"{IMAGE}:other", *NEW[2:])
    assert " was cut off at 10 %: taking it back" in done.out
    assert done.code == 0, done.output
    assert place.serves()[0] == "other"
    assert not left(place)


def test_a_canary_that_cannot_be_taken_back_leaves_it_uncertain_what_serves(place, deploy, canary):
    killed_at_10_percent(place, deploy, canary)
    place.provider.faults += [Fault(*place.back, 403, message="Permission denied.") for _ in range(9)]
    done = deploy("--image", f"{IMAGE}:other", *NEW[2:])
    assert done.code == 2, done.output
    assert " was cut off at 10 %, and can't be taken back: " in done.error
    assert "nothing was changed" not in done.error
    place.provider.faults.clear()
    assert deploy("--rollback").code == 0
    assert place.serves() == OLD


def test_a_rejected_canary_that_cannot_be_rolled_back_leaves_it_uncertain_too(place, deploy, canary):
    slower = [*canary[:-1], "roll-back"]
    slower[slower.index("0.015")] = "0.05"  # minutes: the faults come before its end
    process = deploy.begin(*NEW, *slower)
    until(lambda: splits(place) == [10])
    place.provider.faults += [Fault(*place.back, 403, message="Permission denied.") for _ in range(9)]
    done = deploy.end(process)
    assert done.code == 2, done.output
    assert "and so did the rollback" in done.error


def test_a_rollback_to_an_unknown_version_says_what_it_has_done(place, deploy, canary):
    killed_at_10_percent(place, deploy, canary)
    done = deploy("--rollback", "999")
    assert done.code == 1, done.output
    assert "only the canary was taken back" in done.error
    assert "nothing was changed" not in done.error
    assert place.serves() == OLD
    assert not left(place)


def test_cancelled_during_a_canary(place, deploy, canary):
    slow = [*canary]
    slow[slow.index("0.015")] = "5"
    process = deploy.begin(*NEW, *slow)
    done = deploy.cancel(process, lambda: splits(place) == [10])
    assert done.code == 1, done.output
    assert place.serves() == OLD
    assert not left(place)


def test_prometheus_must_answer_first(place, deploy, canary):
    reasons = {"http://127.0.0.1:9": "no answer after 3 attempts", canary[7]: "no metrics of job x"}
    for url, reason in reasons.items():
        done = deploy(*NEW, *canary, "--prometheus", url, "--job", "x")
        assert done.code == 1
        assert reason in done.error
        assert done.error.endswith("; nothing was changed\n")
    assert place.serves() == OLD


@pytest.mark.parametrize("target", ["render"])
def test_render_says_that_the_smoke_test_alone_decides(place, deploy):
    done = deploy(*NEW, "--canary", "10", "--prometheus", "http://127.0.0.1:9")
    assert done.code == 0, done.output
    assert "no canary: this target cannot divide the traffic; the smoke test alone decides\n" in done.out
    assert place.serves() == ("new", NEW_URL)
    refused = deploy("--rollback", "--canary", "10", "--prometheus", "http://127.0.0.1:9")
    assert refused.code == 1
    assert "--canary is for --image" in refused.error
