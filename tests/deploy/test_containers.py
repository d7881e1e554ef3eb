"""Deploys of the real image: by docker or podman, and to a stand-in of Render that runs containers."""

import shutil
import signal
import socket
import threading
import urllib.request

import pytest

from tests.helpers.container import ENGINE, engine, needs_container
from tests.helpers.deployed_containers import KEY, engine_that
from tests.helpers.deploying import Deploying, Done
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S
from tests.standins.instances import Container
from tests.standins.render import Render

pytestmark = needs_container

SMOKE = ("--smoke-test", str(ROOT / "scripts" / "smoke_test.sh"))


def test_a_model_with_swapped_classes_fails_and_the_container_before_serves_again(models, machine):
    done = machine(*models.options("v1"), *SMOKE, "--env", "API_KEYS", API_KEYS=KEY, API_KEY=KEY)
    assert done.code == 0, done.output
    first = machine.inspect("{{.Id}}")
    assert machine.inspect("{{.HostConfig.ReadonlyRootfs}}") == "true"
    assert machine.inspect("{{.HostConfig.RestartPolicy.Name}}") == "unless-stopped"
    assert "no-new-privileges" in machine.inspect("{{.HostConfig.SecurityOpt}}")
    assert "CapEff:\t0000000000000000" in engine("exec", machine.name, "cat", "/proc/1/status")
    assert "127.0.0.1" in machine.inspect('{{json (index .HostConfig.PortBindings "8080/tcp")}}')

    done = machine(*models.options("swapped"), *SMOKE, API_KEY=KEY)
    assert done.code == 1, done.output
    assert "FAILED" in done.out
    assert "failed (the smoke test failed); the previous version serves again: " in done.error
    assert done.error.endswith(f"{models.image} ({first[:12]})\n")
    assert machine.inspect("{{.Id}}") == first
    assert machine.model() == models.sha256["v1"]
    assert machine.containers() == {machine.name: "running"}

    assert machine(*models.options("v2"), *SMOKE, API_KEY=KEY).code == 0  # API_KEYS is kept
    assert machine.model() == models.sha256["v2"]
    assert machine.inspect("{{.Id}}", f"{machine.name}-previous") == first
    done = machine("--rollback", *SMOKE, API_KEY=KEY)
    assert done.code == 0, done.output
    assert machine.inspect("{{.Id}}") == first
    assert machine.model() == models.sha256["v1"]
    assert set(machine.containers()) == {machine.name, f"{machine.name}-previous"}


def test_a_container_that_ends_at_once_shows_its_log(models, machine):
    assert machine(*models.options("v1")).code == 0
    done = machine(*models.options("v2"), "--model-sha256", "0" * 64)
    assert done.code == 1
    assert f"{machine.name}-next has ended by itself" in done.error
    assert "| error: " in done.out
    assert machine.model() == models.sha256["v1"]
    assert machine.containers() == {machine.name: "running"}


def test_the_first_deploy_fails(models, machine):
    done = machine(*models.options("swapped"), *SMOKE)
    assert done.code == 2
    assert "there is no previous version to go back to" in done.error
    assert machine.containers() == {}
    with socket.create_server(("127.0.0.1", machine.port)):
        done = machine(*models.options("v1"))
    assert done.code == 2
    assert "start: " in done.error
    assert "in use" in done.error
    assert "no earlier deployment" in machine("--rollback").error
    missing = machine("--image", "localhost/not-there:0")
    assert missing.code == 2
    assert "create: " in missing.error


def test_killed_while_the_new_container_is_on_trial(models, machine, tmp_path):
    assert machine(*models.options("v1")).code == 0
    slow = tmp_path / "slow.sh"
    slow.write_text(f'[ -e "{tmp_path}/began" ] && exit; touch "{tmp_path}/began"; sleep 60')
    process = machine.deploying.begin(*models.options("v2"), "--smoke-test", str(slow))
    machine.deploying.cancel(process, (tmp_path / "began").exists, signal.SIGKILL)
    assert set(machine.containers()) == {machine.name, f"{machine.name}-next"}
    assert machine.model() == models.sha256["v2"]
    done = machine("--rollback")
    assert "a run was cut off before " in done.out
    assert done.code == 1
    assert machine.model() == models.sha256["v1"]
    assert machine.containers() == {machine.name: "running"}


def test_cut_off_between_two_renames(models, machine):
    assert machine(*models.options("v1")).code == 0
    assert machine(*models.options("v2")).code == 0
    engine("rename", machine.name, f"{machine.name}-next")
    assert machine("--image", models.image, "--dry-run").code == 0
    assert machine.name not in machine.containers()  # a dry run repairs nothing
    done = machine("--rollback", "no-such-id")
    assert "a run was cut off after " in done.out
    assert machine.model() == models.sha256["v2"]
    assert set(machine.containers()) == {machine.name, f"{machine.name}-previous"}


@pytest.mark.parametrize(
    ("command", "name", "serves"),
    [
        pytest.param("rename", "-previous", "v2", id="the container before has another name"),
        pytest.param("stop", "", "v2", id="the one that serves has stopped"),
        pytest.param("start", "", "v2", id="the container before runs"),
        pytest.param("rename", " ", "v1", id="the one that serves is renamed"),
    ],
)
def test_a_rollback_is_killed(models, machine, tmp_path, command, name, serves):
    """The next run undoes or completes it, and removes neither version."""
    assert machine(*models.options("v1")).code == 0
    assert machine(*models.options("v2")).code == 0
    run = f'"{shutil.which(str(ENGINE))}" "$@"'
    matches = f'[[ $1 == {command} && " $* " == *"{machine.name}{name}"* ]]'
    kill = f"if {matches}; then {run}; touch done; kill -9 $PPID; exit; fi"
    killed = machine("--rollback", CONTAINER=engine_that(tmp_path, kill))
    assert (tmp_path / "done").exists(), killed.output
    assert killed.code == -9
    assert "there is no deployment no-such-id" in machine("--rollback", "no-such-id").error
    assert machine.model() == models.sha256[serves]
    previous = f"{machine.name}-previous"
    assert machine.containers() == {machine.name: "running", previous: "exited"}
    assert machine("--rollback").code == 0
    assert machine.model() == models.sha256["v1" if serves == "v2" else "v2"]


@pytest.mark.parametrize("name", ["-next", "-previous"])
def test_the_engine_fails_to_rename_a_container(models, machine, name, tmp_path):
    assert machine(*models.options("v1")).code == 0
    fail = '{ touch done; echo "Error: disk full" >&2; exit 125; }'
    failing = engine_that(tmp_path, f'[[ $1 != rename || "$2 $3" != *{name}* || -e done ]] || {fail}')
    done = machine(*models.options("v2"), CONTAINER=failing)
    assert done.code == 1, done.output
    assert "failed (engine rename: Error: disk full); the previous version serves again" in done.error
    assert machine.model() == models.sha256["v1"]
    assert machine.containers() == {machine.name: "running"}


def test_cancelled_while_the_image_is_pulled(models, machine, tmp_path):
    slow = engine_that(tmp_path, '[ "$1" != create ] || { touch began; exec sleep 60; }')
    process = machine.deploying.begin(*models.options("v1"), CONTAINER=slow)
    done = machine.deploying.cancel(process, (tmp_path / "began").exists)
    assert done.code == 2
    assert "failed (cancelled)" in done.error
    assert machine.containers() == {}


def test_two_at_once(models, machine, tmp_path):
    assert machine(*models.options("v1")).code == 0
    slow = tmp_path / "slow.sh"
    slow.write_text(f'[ -e "{tmp_path}/began" ] && exit; touch "{tmp_path}/began"; sleep 60')
    first = machine.deploying.begin(*models.options("v2"), "--smoke-test", str(slow))
    other: list[Done] = []

    def both() -> bool:
        if (tmp_path / "began").exists():
            other.append(machine(*models.options("v2")))
        return bool(other)

    assert machine.deploying.cancel(first, both).code == 1  # SIGTERM in the middle of its smoke test
    assert machine.model() == models.sha256["v1"]
    assert machine.containers() == {machine.name: "running"}
    assert other[0].code == 1
    assert f"another deploy of {machine.name} is under way; nothing was changed" in other[0].error


def test_an_engine_that_fails_to_answer(models, machine, tmp_path):
    """If the engine cannot say whether a container exists, that must not count as a no."""
    failing = engine_that(tmp_path, '[ "$1" != container ] || { echo "Error: out of memory" >&2; exit 125; }')
    done = machine(*models.options("v1"), CONTAINER=failing)
    assert done.code == 1
    assert "engine container: Error: out of memory; nothing was changed" in done.error


def test_a_container_that_ends_while_podman_looks_at_it_is_still_there(models, machine, tmp_path):
    """podman reads the cgroup of the container's process, which may have ended since."""
    assert machine(*models.options("v1")).code == 0
    ended = '{ touch done; echo "Error: read /proc/18858/cgroup: no such process" >&2; exit 125; }'
    once = engine_that(tmp_path, f"[[ $1 != container || $3 != {machine.name} || -e done ]] || {ended}")
    done = machine("--image", models.image, "--dry-run", CONTAINER=once)
    assert (tmp_path / "done").exists()
    assert done.code == 0, done.output
    assert "serves now: " in done.out


def test_no_engine(machine):
    done = machine("--image", "x", CONTAINER="no-such-engine")
    assert done.code == 1
    assert "no-such-engine cannot be used; CONTAINER names another command" in done.error


def test_a_model_that_only_this_machine_can_reach(machine):
    """In a container, a loopback address is the container itself."""
    new = ("--image", "x", "--model-url")
    local = "http://localhost:8000/model.pt"
    for options in ((*new, local), ("--image", "x", "--env", f"MODEL_URL={local}")):
        done = machine(*options, CONTAINER="no-such-engine")
        assert done.code == 1
        assert "localhost is the container itself" in done.error
    done = machine("--image", "x", "--env", "MODEL_URL=ftp://example.org/model.pt")
    assert "MODEL_URL must be a URL" in done.error
    done = machine(*new, "file://localhost/model.pt", CONTAINER="no-such-engine")  # a file in the container
    assert "no-such-engine cannot be used" in done.error


def test_render_with_the_real_image_and_the_real_smoke_test(models, tmp_path):
    """A model with swapped classes gets ready and live; the smoke test brings the old one back."""
    path = models.image.partition(":")[0]
    with Render(Container, image_path=path).serving() as render:
        env = {
            "RENDER_API_KEY": render.token,
            "RENDER_SERVICE_ID": render.service,
            "RENDER_API_URL": render.url,
        }
        deploy = Deploying(tmp_path, "render", (render.token,), **env, API_KEY="")
        deploy.options += (*SMOKE, "--timeout", str(HANG_S))
        first = deploy(*models.options("v1"))
        assert first.code == 0, first.output
        answers: list[int] = []
        over = threading.Event()
        watching = threading.Thread(target=_ask, args=(render.front.url, over, answers))
        watching.start()
        done = deploy(*models.options("swapped"))
        over.set()
        watching.join()
        assert done.code == 1, done.output
        assert "is classified as 'dog'" in done.out
        assert [d.status for d in render.deploys] == ["deactivated", "deactivated", "live"]
        assert render.env == {"MODEL_URL": "file:///models/v1.pt", "MODEL_SHA256": models.sha256["v1"]}
        assert set(answers) == {200}  # every request was answered


def _ask(url: str, over: threading.Event, answers: list[int]) -> None:
    while not over.wait(0.05):
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=HANG_S) as answer:
                answers.append(answer.status)
        except OSError:
            answers.append(0)
