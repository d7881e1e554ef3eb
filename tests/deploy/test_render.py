"""What is special about Render; test_every_target.py has the rest."""

import signal
import threading

import pytest

from tests.helpers.places import IMAGE, NEW, NEW_URL, OLD_ENV, OLD_URL, RenderPlace, sha256
from tests.helpers.waiting import until
from tests.standins.provider import Fault
from tests.standins.render import Render


@pytest.fixture
def target() -> str:
    return "render"


@pytest.fixture
def render(place: RenderPlace) -> Render:
    return place.provider


def test_only_the_named_variables_change(render, deploy):
    assert deploy(*NEW, "--env", "LOG_LEVEL=debug").code == 0
    changed = {"MODEL_URL": NEW_URL, "MODEL_SHA256": sha256(NEW_URL), "LOG_LEVEL": "debug"}
    assert render.env == render.live().env == OLD_ENV | changed
    assert not render.count("PUT", ".*/env-vars")  # it would replace the whole list
    assert deploy("--image", f"{IMAGE}:new", "--model-url", OLD_URL).code == 0
    assert "MODEL_SHA256" not in render.env  # it is another model's


def test_after_a_failure_the_variables_are_put_back(render, deploy):
    assert deploy("--image", f"{IMAGE}:broken", "--model-url", NEW_URL, "--env", "LOG_LEVEL=debug").code == 1
    assert render.env == OLD_ENV
    assert render.live().trigger == "rollback"


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("crash", "update_failed, unhealthy: Exited with status 1"),
        ("missing", f"update_failed, {IMAGE}:missing: manifest unknown"),
    ],
)
def test_a_deploy_that_fails_at_render(render, deploy, image, reason):
    render.missing.add(f"{IMAGE}:missing")
    done = deploy("--image", f"{IMAGE}:{image}", "--model-url", NEW_URL)
    assert done.code == 1
    assert reason in done.error
    assert "dep-0001, log: https://dashboard.render.com/web/srv-standin/deploys/dep-0001" in done.out
    assert render.env == OLD_ENV
    assert not render.count("POST", ".*/rollback")  # the old version has served all the time


@pytest.mark.parametrize("how", ["time limit", "signal"])
def test_a_deploy_that_does_not_end_is_cancelled(render, deploy, how):
    options = ("--image", f"{IMAGE}:stuck", "--model-url", NEW_URL)
    if how == "signal":
        done = deploy.cancel(deploy.begin(*options), lambda: len(render.deploys) == 2)
    else:
        done = deploy(*options, "--timeout", "3")
    assert done.code == 1
    assert [d.status for d in render.deploys] == ["live", "canceled"]
    assert render.env == OLD_ENV


def test_an_overlapping_deploy_is_waited_for(render, deploy):
    render.gate.clear()
    other = threading.Thread(target=render.deploy, args=(f"{IMAGE}:other",))
    other.start()
    until(lambda: len(render.deploys) == 2)
    process = deploy.begin("--image", f"{IMAGE}:broken", "--model-url", NEW_URL)
    until(lambda: render.count("GET", ".*/deploys") >= 2)
    render.gate.set()
    done = deploy.end(process)
    other.join()
    assert "dep-0001, started by someone else, is" in done.out
    assert done.code == 1
    assert render.live().image == f"{IMAGE}:other"  # not the version before that one


def test_a_deploy_that_is_queued(render, deploy):
    render.faults += [Fault("POST", ".*/deploys", 202, carried_out=True)]
    assert deploy(*NEW).code == 0
    assert len(render.deploys) == 2


def test_a_queued_deploy_is_not_taken_for_one_that_somebody_else_starts(render, deploy, monkeypatch):
    def create_both(request):
        answer = create(request)
        render._begin(f"{IMAGE}:other", dict(render.env), "manual")
        return answer

    create = render._create
    monkeypatch.setattr(render, "_create", create_both)
    render.faults += [Fault("POST", ".*/deploys", 202, carried_out=True)]
    assert "dep-0001, log: " in deploy(*NEW).out


def test_a_deploy_that_another_one_overrides(render, deploy):
    render.policy = "override"
    process = deploy.begin("--image", f"{IMAGE}:stuck", "--model-url", NEW_URL)
    until(lambda: len(render.deploys) == 2)
    render.deploy(f"{IMAGE}:other")
    done = deploy.end(process)
    assert done.code == 2
    assert "another deploy, dep-0002, has become live since and is left alone" in done.error
    assert render.live().image == f"{IMAGE}:other"


def test_the_deploy_of_a_killed_run_is_waited_for(render, deploy):
    render.gate.clear()
    process = deploy.begin("--image", f"{IMAGE}:stuck", "--model-url", NEW_URL)
    assert deploy.cancel(process, lambda: len(render.deploys) == 2, signal.SIGKILL).code == -9
    render.start_s = 0.5
    asked = render.count("GET", ".*/deploys")
    process = deploy.begin(*NEW)
    until(lambda: render.count("GET", ".*/deploys") > asked + 1)
    render.gate.set()
    done = deploy.end(process)
    assert done.code == 0, done.output
    assert "dep-0001, started by someone else" in done.out


def test_back_by_hand_and_forward_again(render, deploy):
    assert deploy(*NEW).code == 0
    assert deploy("--rollback").code == 0
    again = deploy("--rollback")
    assert again.code == 1
    assert "a rollback is live already; name the deploy to go back to: dep-0001" in again.error
    assert deploy("--rollback", "dep-0001").code == 0
    assert render.live().env["MODEL_URL"] == NEW_URL


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("runtime", "docker", "has runtime docker, not image as in render.yaml"),
        ("suspended", "suspended", "is suspended"),
    ],
)
def test_a_service_that_no_image_can_be_deployed_to(render, deploy, name, value, reason):
    setattr(render, name, value)
    done = deploy(*NEW)
    assert done.code == 1
    assert reason in done.error
    assert {request.method for request in render.seen} == {"GET"}


def test_another_image_than_the_services(render, deploy):
    done = deploy("--image", "registry.example/other:new", "--model-url", NEW_URL)
    assert done.code == 1
    assert "400 invalid imageUrl: host, repository, and image name must match" in done.error
    assert render.env == OLD_ENV
