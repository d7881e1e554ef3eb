"""Deploys to Render, against a stand-in of its API."""

import hashlib
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.deploying import Deploying
from tests.standins.provider import Fault
from tests.standins.render import Render
from tests.waiting import until

KEY = "rnd_0123456789abcdef"
IMAGE = "registry.example/cats-vs-dogs"
OLD_URL, NEW_URL = "https://example.org/v1/model.pt", "https://example.org/v2/model.pt"


def sha256(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


NEW = ("--image", f"{IMAGE}:new", "--model-url", NEW_URL, "--model-sha256", sha256(NEW_URL))


@pytest.fixture
def render():
    with Render(token=KEY).serving() as render:
        render.deploy(
            f"{IMAGE}:old", MODEL_URL=OLD_URL, MODEL_SHA256=sha256(OLD_URL), API_KEYS="owners-secret-key"
        )
        render.seen.clear()
        yield render


@pytest.fixture
def deploy(render, tmp_path):
    env = {"RENDER_API_KEY": KEY, "RENDER_SERVICE_ID": "srv-standin", "RENDER_API_URL": render.url}
    with Deploying(tmp_path, "render", (KEY, "owners-secret-key"), **env) as deploying:
        yield deploying


def serves(render: Render) -> tuple[str, str]:
    """What answers at the service's URL: its image's tag, its model."""
    return render.live().image.rpartition(":")[2], render._instance.env["MODEL_URL"]


def settings(render: Render) -> dict[str, str]:
    return {name: render.env.get(name) for name in ("MODEL_URL", "MODEL_SHA256", "API_KEYS")}


OLD_SETTINGS = {"MODEL_URL": OLD_URL, "MODEL_SHA256": sha256(OLD_URL), "API_KEYS": "owners-secret-key"}


def is_as_before(render: Render) -> bool:
    return serves(render) == ("old", OLD_URL) and settings(render) == OLD_SETTINGS


def test_a_deploy_that_passes(render, deploy):
    render.gate.clear()
    process = deploy.begin(*NEW, "--env", "LOG_LEVEL=debug")
    until(lambda: render.count("GET", ".*/dep-0001") > 1)
    render.gate.set()
    done = deploy.end(process)
    assert done.code == 0, done.said
    assert serves(render) == ("new", NEW_URL)
    assert settings(render) == {
        "MODEL_URL": NEW_URL,
        "MODEL_SHA256": sha256(NEW_URL),
        "API_KEYS": "owners-secret-key",
    }
    assert render.live().env["LOG_LEVEL"] == "debug"
    assert not render.count("PUT", ".*/env-vars")  # it would replace the whole list
    assert " s created\n" in done.out
    assert " s live\n" in done.out
    assert (
        f"serves now: dep-0000 ({IMAGE}:old) at {render.front.url}, model {sha256(OLD_URL)[:12]}" in done.out
    )
    assert done.error == ""
    assert done.summary.endswith(
        f"| deployed | {render.front.url} | {IMAGE}:new | {sha256(NEW_URL)[:12]} |\n\n"
    )
    assert done.outputs == f"url={render.front.url}\n"


def test_the_pin_of_another_model_goes(render, deploy):
    assert deploy("--image", f"{IMAGE}:new", "--model-url", NEW_URL).code == 0
    assert "MODEL_SHA256" not in render.env
    assert render.live().env["MODEL_URL"] == NEW_URL


def test_the_first_deploy(tmp_path):
    with Render(token=KEY).serving() as render:
        env = {"RENDER_API_KEY": KEY, "RENDER_SERVICE_ID": "srv-standin", "RENDER_API_URL": render.url}
        deploy = Deploying(tmp_path, "render", (KEY,), **env)
        failed = deploy("--image", f"{IMAGE}:broken", "--model-url", OLD_URL)
        assert failed.code == 2
        assert "there is no deploy before this one to go back to" in failed.error
        assert deploy("--image", f"{IMAGE}:new", "--model-url", NEW_URL).code == 0


@pytest.mark.parametrize("broken", ["image", "model"])
def test_a_smoke_test_that_fails_brings_image_and_model_back(render, deploy, broken):
    url = "https://example.org/broken/model.pt?signature=0123456789"
    new = (f"{IMAGE}:broken", NEW_URL) if broken == "image" else (f"{IMAGE}:old", url)
    deploy.secrets += ("signature=0123456789",)
    done = deploy("--image", new[0], "--model-url", new[1], "--env", "LOG_LEVEL=debug")
    assert done.code == 1
    assert is_as_before(render)
    assert "LOG_LEVEL" not in render.env
    assert render.live().trigger == "rollback"
    assert done.error == (
        f"error: the deploy of {new[0]} failed (the smoke test failed); "
        f"what served before serves again: {IMAGE}:old (dep-0000)\n"
    )
    assert "| it is broken; the key is ***" in done.out
    assert "| failed (the smoke test failed); rolled back |" in done.summary


def test_another_model_than_was_asked_for_is_a_failure(render, deploy):
    done = deploy("--image", f"{IMAGE}:new", "--model-url", NEW_URL, "--model-sha256", "0" * 64)
    assert done.code == 1
    assert "another model" in done.out
    assert is_as_before(render)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("crash", "update_failed, Exited with status 1"),
        ("missing", f"update_failed, {IMAGE}:missing: manifest unknown"),
    ],
)
def test_a_deploy_that_fails_at_render(render, deploy, image, told):
    render.missing.add(f"{IMAGE}:missing")
    done = deploy("--image", f"{IMAGE}:{image}", "--model-url", NEW_URL)
    assert done.code == 1
    assert told in done.error
    assert "log: https://dashboard.render.com/web/srv-standin/deploys/dep-0001" in done.out
    assert is_as_before(render)
    assert not render.count("POST", ".*/rollback")  # what served before has served all the time


def test_a_deploy_that_takes_too_long_is_cancelled(render, deploy):
    done = deploy("--image", f"{IMAGE}:stuck", "--model-url", NEW_URL, "--timeout", "3")
    assert done.code == 1
    assert "not done after 3 s; its last status was update_in_progress" in done.error
    assert [d.status for d in render.deploys] == ["live", "canceled"]
    assert is_as_before(render)


def test_a_rollback_that_fails(render, deploy):
    render.faults += [Fault("POST", ".*/rollback", 404, message="The build artifact is no longer available.")]
    done = deploy("--image", f"{IMAGE}:broken", "--model-url", NEW_URL)
    assert done.code == 2
    assert "and so did the rollback" in done.error
    assert "The build artifact is no longer available." in done.error
    assert "failed, and so did the rollback" in done.summary


def test_what_served_before_may_fail_the_smoke_test_too(render, deploy):
    render.deploy(f"{IMAGE}:old-and-broken", MODEL_URL=OLD_URL)
    done = deploy("--image", f"{IMAGE}:broken", "--model-url", NEW_URL)
    assert done.code == 2
    assert "and so did the rollback: the smoke test failed" in done.error


def test_the_api_falters(render, deploy):
    soon = {"Ratelimit-Remaining": "0", "Ratelimit-Reset": "1"}
    render.faults += [
        Fault(
            "GET",
            "/services/srv-standin",
            429,
            {"Retry-After": "1"},
            message="Rate limit has been surpassed.",
        ),
        Fault("PUT", ".*/env-vars/MODEL_URL", 500),
        Fault("PUT", ".*/env-vars/MODEL_URL"),
        Fault("POST", ".*/deploys", 429, soon, message="Rate limit has been surpassed."),
        Fault("GET", ".*/deploys/dep-.*", 503),
        Fault("GET", ".*/deploys/dep-.*"),
    ]
    began = time.monotonic()
    done = deploy(*NEW)
    assert done.code == 0, done.said
    assert render.faults == []
    assert "429 Rate limit has been surpassed.; again in 1 s" in done.out
    assert time.monotonic() - began > 2
    assert len(render.deploys) == 2


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("status", [0, 500])
def test_a_lost_answer_starts_no_second_deploy(render, deploy, carried_out, status):
    render.faults += [Fault("POST", ".*/deploys", status, carried_out=carried_out)]
    done = deploy(*NEW)
    assert done.code == 0, done.said
    assert len(render.deploys) == 2
    assert serves(render) == ("new", NEW_URL)


def test_render_is_down(render, deploy):
    render.faults += [Fault("PUT", ".*/env-vars/MODEL_SHA256", 503) for _ in range(6)]
    done = deploy(*NEW)
    assert done.code == 1
    assert "503 An unexpected server error has occurred., after 6 attempts" in done.error
    assert is_as_before(render)


@pytest.mark.parametrize("answer", [(502, {}), (200, []), (200, {"version": 1})])
def test_what_serves_now_does_not_tell_its_model(render, deploy, answer):
    render._instance.answer = lambda path: answer
    done = deploy(*NEW)
    assert done.code == 0, done.said
    assert f"serves now: dep-0000 ({IMAGE}:old) at {render.front.url}\n" in done.out


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
    assert "dep-0001, begun by others, is" in done.out
    assert done.code == 1
    assert render.live().image == f"{IMAGE}:other"  # and not what served before that one


def test_a_deploy_that_is_queued(render, deploy):
    render.faults += [Fault("POST", ".*/deploys", 202, carried_out=True)]
    assert deploy(*NEW).code == 0
    assert len(render.deploys) == 2


def test_a_deploy_that_another_one_overrides(render, deploy):
    render.policy = "override"
    process = deploy.begin("--image", f"{IMAGE}:stuck", "--model-url", NEW_URL)
    until(lambda: len(render.deploys) == 2)
    render.deploy(f"{IMAGE}:other")
    done = deploy.end(process)
    assert done.code == 2
    assert "another deploy, dep-0002, has become live meanwhile and is left alone" in done.error
    assert render.live().image == f"{IMAGE}:other"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_cancelled_while_it_deploys(render, deploy, number):
    process = deploy.begin("--image", f"{IMAGE}:stuck", "--model-url", NEW_URL)
    done = deploy.cancel(process, lambda: len(render.deploys) == 2, number)
    assert done.code == 1
    assert "failed (cancelled); what served before serves again" in done.error
    assert [d.status for d in render.deploys] == ["live", "canceled"]
    assert is_as_before(render)


@pytest.mark.parametrize("first", ["SIGINT", "a test that fails"])
def test_a_signal_does_not_cut_the_rollback_short(render, deploy, tmp_path, first):
    began, go, pid = tmp_path / "began", tmp_path / "go", tmp_path / "pid"
    smoke = tmp_path / "slow.sh"
    smoke.write_text(
        f'[ -e "{began}" ] && exit; echo $$ >"{pid}"; touch "{began}"\n'
        f'until [ -e "{go}" ]; do sleep 0.01; done; exit 1'
    )
    process = deploy.begin(*NEW, "--smoke-test", str(smoke))
    until(began.exists)
    render.gate.clear()
    if first == "SIGINT":
        process.send_signal(signal.SIGINT)
    else:
        go.touch()
    until(lambda: render.count("POST", ".*/rollback") == 1)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    render.gate.set()
    done = deploy.end(process)
    assert done.code == 1
    assert is_as_before(render)
    assert not Path("/proc", pid.read_text().strip()).exists()


def test_killed_and_run_again(render, deploy):
    render.gate.clear()
    process = deploy.begin("--image", f"{IMAGE}:stuck", "--model-url", NEW_URL)
    assert deploy.cancel(process, lambda: len(render.deploys) == 2, signal.SIGKILL).code == -9
    render.start_s = 0.5
    asked = render.count("GET", ".*/deploys")
    process = deploy.begin(*NEW)
    until(lambda: render.count("GET", ".*/deploys") > asked + 1)
    render.gate.set()
    done = deploy.end(process)
    assert done.code == 0, done.said
    assert "dep-0001, begun by others" in done.out
    assert serves(render) == ("new", NEW_URL)


def test_back_by_hand(render, deploy):
    assert deploy(*NEW).code == 0
    done = deploy("--rollback")
    assert done.code == 0, done.said
    assert serves(render) == ("old", OLD_URL)
    again = deploy("--rollback")
    assert again.code == 1
    assert "what serves is a rollback already; name the deploy to go back to: dep-0001" in again.error
    assert deploy("--rollback", "dep-0001").code == 0
    assert serves(render) == ("new", NEW_URL)
    assert deploy("--rollback", "dep-9999").code == 1


def test_a_rollback_by_hand_that_fails(render, deploy):
    assert deploy(*NEW).code == 0
    render.faults += [Fault("POST", ".*/rollback", 403, message="Forbidden")]
    done = deploy("--rollback")
    assert done.code == 2
    assert (
        "the rollback to dep-0000 failed: Render: POST /services/srv-standin/rollback: 403 Forbidden"
        in done.error
    )


def test_a_rollback_takes_no_model(render, deploy):
    done = deploy("--rollback", "--model-url", NEW_URL)
    assert done.code == 1
    assert "--rollback takes neither a model nor variables" in done.error
    assert render.seen == []


def test_a_dry_run_changes_nothing(render, deploy):
    done = deploy(*NEW, "--dry-run")
    assert done.code == 0
    assert "variables that change: MODEL_URL, MODEL_SHA256" in done.out
    assert {request.method for request in render.seen} == {"GET"}


REFUSED = [
    ((), {"RENDER_API_KEY": ""}, "RENDER_API_KEY is not set"),
    (
        (),
        {"RENDER_API_KEY": "wrong-key"},
        "401 Authorization information is missing or invalid. (is RENDER_API_KEY",
    ),
    ((), {"RENDER_API_KEY": "wrong\nkey"}, "RENDER_API_KEY: must be printable ASCII"),
    ((), {"RENDER_SERVICE_ID": "../owners"}, "RENDER_SERVICE_ID must be set to the service's id"),
    ((), {"RENDER_SERVICE_ID": "srv-other"}, "404 not found"),
    ((), {"RENDER_API_URL": "http://example.org/v1"}, "must start with https://"),
    ((), {"WAIT_SECONDS": "soon"}, "WAIT_SECONDS must be a whole number"),
    (("--image=-x",), {}, "no image's reference"),
    (("--model-url", "ftp://u:password-1@example.org"), {}, "--model-url must be a URL"),
    (("--model-url", "https://[password-1"), {}, "--model-url must be a URL"),
    (("--poll", "0"), {}, "--poll and --timeout must be more than 0"),
    (("--model-sha256", "abc"), {}, "must be 64 hexadecimal digits"),
    (("--env", "A-B=password-1"), {}, "--env: NAME or NAME=VALUE"),
    (("--env", "PORT=1"), {}, "--env: NAME or NAME=VALUE"),
    (("--env", "NOT_THERE"), {}, "--env NOT_THERE: there is no such variable"),
    (("--env", "A=password-1\npassword-2"), {}, "a value has several lines"),
]


def test_bad_settings_and_options_change_nothing(render, deploy):
    deploy.secrets += ("wrong-key", "wrong\nkey", "password-1", "password-2")
    processes = [
        deploy.begin(*NEW, *options, **env) for options, env, _ in REFUSED
    ]  # together: it saves time
    for process, (_, _, told) in zip(processes, REFUSED, strict=True):
        done = deploy.end(process)
        assert done.code == 1
        assert done.error.count("\n") == 1
        assert told in done.error
        assert done.error.endswith("; nothing was changed\n")
    assert is_as_before(render)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("runtime", "docker", "builds from its repository (runtime docker)"),
        ("suspended", "suspended", "is suspended"),
    ],
)
def test_a_service_that_no_image_can_be_deployed_to(render, deploy, name, value, told):
    setattr(render, name, value)
    done = deploy(*NEW)
    assert done.code == 1
    assert told in done.error
    assert {request.method for request in render.seen} == {"GET"}


def test_another_image_than_the_services(render, deploy):
    done = deploy("--image", "registry.example/other:new", "--model-url", NEW_URL)
    assert done.code == 1
    assert "400 invalid imageUrl: host, repository, and image name must match" in done.error
    assert is_as_before(render)


def test_secrets_come_from_the_environment_and_are_not_shown(render, deploy):
    secret = "key-one-0123,key-two-4567"
    deploy.secrets += ("key-one-0123", "key-two-4567")
    render.faults += [Fault("PUT", ".*/env-vars/API_KEYS", 400, message=f"bad value {secret}")]
    done = deploy(*NEW, "--env", "API_KEYS", API_KEYS=secret)
    assert done.code == 1
    assert "400 bad value ***" in done.error
    assert deploy(*NEW, "--env", "API_KEYS", API_KEYS=secret).code == 0
    assert render.live().env["API_KEYS"] == secret


def test_what_others_say_gives_the_workflow_no_command(render, deploy, tmp_path):
    smoke = tmp_path / "smoke.sh"
    smoke.write_text(
        "echo '::set-output name=x::y'; echo '  ::warning::x'; echo 'a ##[error]x'; printf 'a\\033[31mb\\n'"
    )
    done = deploy(*NEW, "--smoke-test", str(smoke))
    assert done.code == 0
    assert done.out.count("  |") == 4
    assert not any(line.lstrip().startswith("::") for line in done.out.splitlines())
    assert "##[" not in done.out
    assert "\033" not in done.out
