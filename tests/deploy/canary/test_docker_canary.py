"""Canaries of real containers behind a real HAProxy, and what a kill at each step leaves."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts.looping.photos import Labelled
from scripts.looping.proxy_image import haproxy_image
from scripts.looping.sender import Sender
from tests.conftest import needs
from tests.helpers import monitoring_tools
from tests.helpers.container import ENGINE, needs_container
from tests.helpers.deployed_containers import Machine, engine_that
from tests.helpers.paths import ROOT
from tests.helpers.two_versions import prometheus
from tests.helpers.waiting import until

pytestmark = [needs_container, needs("haproxy", "prometheus", "ldd")]


@pytest.fixture(scope="module")
def proxy_image() -> Iterator[str]:
    with haproxy_image(str(ENGINE)) as tag:
        yield tag


class Watched(NamedTuple):
    """A Prometheus for all tests, and the file that names its targets."""

    url: str
    targets: Path

    def knows(self, port: int) -> bool:
        return bool(monitoring_tools.query(self.url, f'model_info{{instance="127.0.0.1:{port}"}}'))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("prometheus")
    targets = folder / "targets.json"
    targets.write_text("[]")
    with prometheus(folder, targets) as url:
        yield Watched(url, targets)


@pytest.fixture
def canary(machine: Machine, proxy_image: str, watched: Watched) -> tuple[str, ...]:
    """The options of a canary of half a minute without traffic."""
    watched.targets.write_text(json.dumps([{"targets": [f"127.0.0.1:{machine.port}"]}]))
    machine.deploying.options += ("--proxy-image", proxy_image, "--targets", str(watched.targets))
    return (
        *("--canary", "10,50", "--minutes", "0.02", "--look", "0.5", "--prometheus", watched.url),
        *("--too-little", "promote"),
    )


def first(machine: Machine, models, watched: Watched) -> None:
    """Have version 1 serve, known to Prometheus."""
    assert machine(*models.options("v1")).code == 0
    until(lambda: watched.knows(machine.port))


def test_a_canary_and_the_ways_back(models, machine, canary, watched):
    first(machine, models, watched)
    sender = Sender(machine.url, feedback=0)
    cat = Labelled((ROOT / "tests/photos/cat.jpg").read_bytes(), "cat")
    with sender.sending([cat], rate=20):
        done = machine(*models.options("v2"), *canary)
    assert done.code == 0, done.output
    assert sender.sent > 0
    assert not sender.failures  # although the champion is restarted, and the proxy's configuration changes
    names = {machine.name, f"{machine.name}-previous", f"{machine.name}-proxy"}
    assert set(machine.containers()) == names
    assert machine.model() == models.sha256["v2"]
    assert "too little traffic (" in done.summary
    (target,) = json.loads(watched.targets.read_text())[0]["targets"]
    assert target == f"127.0.0.1:{machine.port + 1}"
    assert machine("--rollback").code == 0  # two containers behind the proxy change places
    assert machine.model() == models.sha256["v1"]
    (target,) = json.loads(watched.targets.read_text())[0]["targets"]  # its new address
    until(lambda: watched.knows(int(target.rpartition(":")[2])))
    done = machine(*models.options("v2"), *canary[:-1], "roll-back")
    assert done.code == 3, done.output
    assert "too little traffic: 0 predictions of the new version and " in done.error
    assert machine.model() == models.sha256["v1"]
    assert set(machine.containers()) == names
    with sender.sending([cat], rate=20):
        done = machine(*models.options("v2"))  # without a canary, a container has the port again
    assert done.code == 0, done.output
    assert not sender.failures
    assert machine.model() == models.sha256["v2"]
    assert set(machine.containers()) == names - {f"{machine.name}-proxy"}
    assert machine("--rollback").code == 0  # to one that needs the proxy
    assert machine.model() == models.sha256["v1"]
    assert set(machine.containers()) == names


def test_a_first_canary_that_fails_at_its_end_brings_the_champion_back(
    models, machine, canary, watched, tmp_path
):
    """The champion was replaced by a copy meanwhile."""
    first(machine, models, watched)
    smoke = tmp_path / "fails_the_second_time.sh"
    smoke.write_text(f"echo >>{tmp_path}/calls; [ $(wc -l <{tmp_path}/calls) != 2 ]")
    done = machine(*models.options("v2"), *canary, "--smoke-test", str(smoke))
    assert done.code == 1, done.output
    assert "the previous version serves again" in done.error
    assert machine.model() == models.sha256["v1"]
    done = machine("--rollback")
    assert done.code == 1, done.output
    assert "there is no earlier deployment" in done.error  # least of all the one that failed
    assert machine.model() == models.sha256["v1"]


@pytest.mark.parametrize(
    ("command", "name", "configuration", "again"),
    [
        pytest.param("create", "-next", "", "rollback", id="the candidate is made"),
        pytest.param("start", "-clone", "", "canary", id="the copy of the champion runs"),
        pytest.param("stop", "", "", "rollback", id="the champion has stopped"),
        pytest.param("rm", "", "", "canary", id="the champion is removed"),
        pytest.param("kill", "-proxy", "weight 50", "canary", id="the candidate has 50 %"),
        pytest.param("stop", "", "weight 100", "rollback", id="the champion has stopped again"),
        pytest.param("rename", "", "weight 100", "canary", id="the champion is renamed"),
    ],
)
def test_killed_at_a_step(models, machine, canary, watched, tmp_path, command, name, configuration, again):
    """The same command goes on, and another one takes the canary back."""
    first(machine, models, watched)
    name = machine.name + name
    remember = '[[ $1 != cp || $2 != /*haproxy.cfg ]] || cp "$2" last.cfg; cat last.cfg 2>/dev/null >all.cfg'
    matches = f'[[ $1 == {command} && " $* " == *" {name} "* && "$(cat all.cfg)" == *"{configuration}"* ]]'
    run = f'"{shutil.which(str(ENGINE))}" "$@"'
    kill = f"{remember}\nif {matches}; then {run}; touch done; kill -9 $PPID; exit; fi"
    killed = machine(*models.options("v2"), *canary, CONTAINER=engine_that(tmp_path, kill))
    assert (tmp_path / "done").exists(), killed.output
    assert killed.code == -9
    if again == "canary":
        done = machine(*models.options("v2"), *canary)
        assert done.code == 0, done.output
        assert machine.model() == models.sha256["v2"]
    else:
        done = machine("--rollback")
        assert done.code == 0, done.output
        assert machine.model() == models.sha256["v1"]
    left = set(machine.containers()) - {machine.name, f"{machine.name}-previous", f"{machine.name}-proxy"}
    assert not left


def test_a_rollback_to_a_former_candidate_is_killed(models, machine, canary, watched, tmp_path):
    """It is not taken for a canary that was cut off."""
    first(machine, models, watched)
    assert machine(*models.options("v2"), *canary).code == 0
    assert machine("--rollback").code == 0
    run = f'"{shutil.which(str(ENGINE))}" "$@"'
    kill = f"if [[ $1 == start ]]; then {run}; touch done; kill -9 $PPID; exit; fi"
    killed = machine("--rollback", CONTAINER=engine_that(tmp_path, kill))
    assert (tmp_path / "done").exists(), killed.output
    assert machine.model() == models.sha256["v1"]
    done = machine("--rollback")
    assert done.code == 0, done.output
    assert machine.model() == models.sha256["v2"]
    names = {machine.name, f"{machine.name}-previous", f"{machine.name}-proxy"}
    assert set(machine.containers()) == names
