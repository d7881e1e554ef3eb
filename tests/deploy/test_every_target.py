"""What `python -m deploy` does on every target: deploy, test, promote, roll back. Against stand-ins."""

import argparse
import email.utils
import re
import signal
import time
from pathlib import Path

import pytest

from deploy.cancellation import CANCELLATION
from deploy.cloud_run import CloudRun
from deploy.render import Render
from deploy.target import DeployError
from tests.conftest import needs
from tests.helpers.endpoint import Reply, endpoint
from tests.helpers.places import IMAGE, NEW, NEW_URL, OLD_URL, PLACES, sha256
from tests.helpers.waiting import until
from tests.standins.provider import Fault

OLD = ("old", OLD_URL)
APIS = ("render", "cloud-run")
OPTIONS = argparse.Namespace(timeout=60, poll=0.02)


@pytest.fixture(
    params=[pytest.param(name, marks=needs("kubectl") if name == "kubernetes" else ()) for name in PLACES]
)
def target(request) -> str:
    return request.param


def of(*targets: str) -> pytest.MarkDecorator:
    """Only these targets."""
    return pytest.mark.parametrize("target", targets)


def test_a_deploy_that_passes(place, deploy):
    place.provider.gate.clear()
    process = deploy.begin(*NEW, "--env", "LOG_LEVEL=debug")
    until(lambda: place.versions() == 2)
    time.sleep(0.1)
    assert place.serves() == OLD
    place.provider.gate.set()
    done = deploy.end(process)
    assert done.code == 0, done.output
    assert place.serves() == ("new", NEW_URL)
    assert f" ({IMAGE}:old) at http://127.0.0.1:" in done.out
    assert f", model {sha256(OLD_URL)[:12]}\n" in done.out
    assert "variables that change: LOG_LEVEL, MODEL_URL, MODEL_SHA256\n" in done.out
    assert done.error == ""
    url = done.outputs.removeprefix("url=").strip()
    assert url.startswith("http://127.0.0.1:")
    assert done.summary.endswith(f"| deployed | {url} | {IMAGE}:new | {sha256(NEW_URL)[:12]} |\n\n")


@pytest.mark.parametrize("broken", ["image", "model"])
def test_if_the_smoke_test_fails_image_and_model_come_back(place, deploy, broken):
    url = "https://example.org/broken/model.pt?signature=0123456789"
    image, model = (f"{IMAGE}:broken", NEW_URL) if broken == "image" else (f"{IMAGE}:other", url)
    deploy.secrets += ("signature=0123456789",)
    done = deploy("--image", image, "--model-url", model, "--env", "LOG_LEVEL=debug")
    assert done.code == 1
    assert place.serves() == OLD
    assert f"error: the deploy of {image} failed (the smoke test failed); " in done.error
    assert f"the previous version serves again: {IMAGE}:old (" in done.error
    assert "| it is broken; the key is ***" in done.out
    assert "| failed (the smoke test failed); rolled back |" in done.summary
    assert deploy(*NEW).code == 0
    assert place.serves() == ("new", NEW_URL)


@of("render")
def test_a_summary_that_cannot_be_written_decides_nothing(place, deploy):
    done = deploy(*NEW, GITHUB_STEP_SUMMARY="/no/such/folder/summary")
    assert done.code == 0, done.output
    assert place.serves() == ("new", NEW_URL)
    assert "the workflow's summary cannot be written: No such file or directory" in done.error


@of("render")
def test_another_model_than_the_wanted_one_is_a_failure(place, deploy):
    options = ("--image", f"{IMAGE}:new", "--model-url", NEW_URL, "--model-sha256", "0" * 64)
    done = deploy(*options, WAIT_SECONDS="3")
    assert done.code == 1
    assert "another model" in done.out
    assert place.serves() == OLD


@pytest.mark.parametrize(("image", "seconds"), [("crash", 60), ("stuck", 3)])
def test_a_version_that_does_not_start(place, deploy, image, seconds):
    done = deploy("--image", f"{IMAGE}:{image}", "--model-url", NEW_URL, "--timeout", str(seconds))
    assert done.code == 1, done.output
    assert place.reasons[image] in done.error
    assert place.serves() == OLD


@of("render", "kubernetes")
def test_a_first_deploy_has_nothing_to_go_back_to(empty_place, deploy):
    failed = deploy("--image", f"{IMAGE}:broken", "--model-url", OLD_URL)
    assert failed.code == 2
    assert "there is no previous version to go back to" in failed.error
    deploy.options += ("--dry-run",)
    assert deploy("--rollback").code == 1


def test_a_rollback_that_fails(place, deploy):
    image = "stuck" if place.target == "cloud-run" else "broken"
    place.provider.start_s = 1
    place.provider.gate.clear()
    process = deploy.begin(
        "--image", f"{IMAGE}:{image}", "--model-url", NEW_URL, "--smoke-test", "/no/such/script"
    )
    until(lambda: place.versions() == 2)
    place.provider.faults += [Fault(*place.back, 403, message="Permission denied.") for _ in range(9)]
    if place.target == "cloud-run":
        with place.provider.lock:
            place.provider.statuses = []  # no revision gets any traffic
    place.provider.gate.set()
    done = deploy.end(process)
    assert done.code == 2
    assert "and so did the rollback" in done.error
    assert "Permission denied." in done.error
    assert "failed, and so did the rollback" in done.summary


@of("render")
def test_the_version_before_may_fail_the_smoke_test_too(place, deploy):
    place.make("old-and-broken")
    done = deploy("--image", f"{IMAGE}:broken", "--model-url", NEW_URL)
    assert done.code == 2
    assert "and so did the rollback: the smoke test failed" in done.error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_cancelled_while_the_new_version_starts(place, deploy, number):
    process = deploy.begin("--image", f"{IMAGE}:stuck", "--model-url", NEW_URL)
    done = deploy.cancel(process, lambda: place.versions() == 2, number)
    assert done.code == 1
    assert "failed (cancelled); the previous version serves again" in done.error
    assert place.serves() == OLD


@pytest.mark.parametrize("first", ["SIGINT", "a test that fails"])
def test_a_signal_does_not_interrupt_the_rollback(place, deploy, tmp_path, first):
    began, go, pid = tmp_path / "began", tmp_path / "go", tmp_path / "pid"
    smoke = tmp_path / "slow.sh"
    smoke.write_text(
        f'[ -e "{began}" ] && exit; echo $$ >"{pid}"; touch "{began}"\n'
        f'until [ -e "{go}" ]; do sleep 0.01; done; exit 1'
    )
    process = deploy.begin(*NEW, "--smoke-test", str(smoke))
    until(began.exists)
    place.provider.gate.clear()
    before = place.provider.count(*place.back)
    if first == "SIGINT":
        process.send_signal(signal.SIGINT)
    else:
        go.touch()
    until(lambda: place.provider.count(*place.back) > before)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    place.provider.gate.set()
    done = deploy.end(process)
    assert done.code == 1
    assert place.serves() == OLD
    assert not Path("/proc", pid.read_text().strip()).exists()


@of(*APIS)
def test_killed_and_run_again(place, deploy):
    process = deploy.begin("--image", f"{IMAGE}:stuck", "--model-url", NEW_URL)
    assert deploy.cancel(process, lambda: place.versions() == 2, signal.SIGKILL).code == -9
    place.provider.start_s = 0.5
    assert deploy(*NEW).code == 0
    assert place.serves() == ("new", NEW_URL)


def test_back_by_hand(place, deploy):
    assert deploy(*NEW).code == 0
    done = deploy(
        "--rollback", EXPECTED_VERSION="newer", EXPECTED_SHA256="0" * 64
    )  # meant for another deploy
    assert done.code == 0, done.output
    assert place.serves() == OLD
    assert "| rolled back by hand |" in done.summary
    missing = deploy("--rollback", "987654321")
    assert missing.code == 1
    assert missing.error.endswith("; nothing was changed\n")
    refused = deploy("--rollback", "--model-url", NEW_URL)
    assert refused.code == 1
    assert "--rollback brings back the old model and variables" in refused.error


def test_a_rollback_by_hand_that_fails(place, deploy):
    assert deploy(*NEW).code == 0
    place.provider.faults += [Fault(*place.back, 403, message="Forbidden") for _ in range(9)]
    done = deploy("--rollback")
    assert done.code == 2
    assert "the rollback to " in done.error
    assert "Forbidden" in done.error


def test_a_dry_run_changes_nothing(place, deploy):
    done = deploy(*NEW, "--dry-run")
    assert done.code == 0
    assert "variables that change: MODEL_URL, MODEL_SHA256" in done.out
    assert not place.provider.count(*place.start)
    assert place.versions() == 1


@pytest.mark.parametrize("answer", [(502, {}), (200, []), (200, {"version": 1})])
@of("render")
def test_the_live_version_does_not_say_its_model(place, deploy, answer):
    place.provider._instance.answer = lambda path: answer
    done = deploy(*NEW)
    assert done.code == 0, done.output
    assert f"serves now: dep-0000 ({IMAGE}:old) at {place.provider.front.url}\n" in done.out


@of(*APIS)
@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("status", [0, 500])
def test_a_lost_answer_starts_no_second_version(place, deploy, carried_out, status):
    place.provider.faults += [Fault(*place.start, status, carried_out=carried_out)]
    done = deploy(*NEW)
    assert done.code == 0, done.output
    assert place.versions() == 2
    assert place.serves() == ("new", NEW_URL)


@of(*APIS)
def test_an_api_with_hiccups(place, deploy):
    limited = "Rate limit has been surpassed."
    place.provider.faults += [
        Fault("GET", ".*/(srv-standin|cats-vs-dogs)", 429, {"Retry-After": "1"}, message=limited),
        Fault("GET", ".*/(srv-standin|cats-vs-dogs)", 503),
        Fault(*place.start, 429, message=limited),
        Fault("GET", ".*/(deploys|revisions/.*)", 503),
        Fault("GET", ".*/(deploys|revisions/.*)"),
    ]
    done = deploy(*NEW)
    assert done.code == 0, done.output
    assert place.provider.faults == []
    assert "status 429: next attempt in 1.0 s" in done.out
    assert place.versions() == 2


@of(*APIS)
def test_an_api_that_is_down(place, deploy):
    place.provider.faults += [Fault(*place.start, 503) for _ in range(7)]
    done = deploy(*NEW)
    assert done.code == 1
    assert "503 An unexpected server error has occurred." in done.error
    assert place.serves() == OLD
    assert place.versions() == 1


@of(*APIS)
def test_a_token_is_not_sent_to_another_host(place, deploy):
    with endpoint(lambda _: Reply(404)) as (url, seen):
        place.provider.faults += [Fault("GET", ".*", 307, {"Location": f"{url}/"})]
        done = deploy(*NEW)
    assert done.code == 1
    assert done.error.endswith("; nothing was changed\n")
    assert not any("authorization" in sent.headers for sent in seen)


def test_secrets_come_from_the_environment_and_are_not_printed(place, deploy):
    secret = "key-one-0123,key-two-4567"
    deploy.secrets += ("key-one-0123", "key-two-4567")
    rejected = f"bad value {secret}"
    place.provider.faults += [
        Fault("PUT", ".*/API_KEYS", 400, message=rejected),
        Fault("PATCH", ".*", 400, message=rejected),
    ]
    done = deploy(*NEW, "--env", "API_KEYS", API_KEYS=secret)
    assert done.code == 1
    assert place.serves() == OLD
    assert ("400 bad value ***" if place.takes_secrets else "put it into the Secret") in done.error
    done = deploy(*NEW, "--env", "API_KEYS", API_KEYS=secret)
    assert done.code == (0 if place.takes_secrets else 1)


@of("render")
def test_what_others_say_gives_the_workflow_no_command(place, deploy, tmp_path):
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


REJECTED = [
    ((), {"RENDER_API_KEY": "wrong-key"}, "401 Authorization information is missing or invalid. (is RENDER_"),
    ((), {"RENDER_API_KEY": "wrong\nkey"}, "RENDER_API_KEY must be set to a token of"),
    ((), {"WAIT_SECONDS": "soon"}, "WAIT_SECONDS must be a whole number"),
    (("--image=-x",), {}, "--image is not the reference of an image"),
    (("--image", "x', value: y}"), {}, "--image is not the reference of an image"),
    (("--model-url", "ftp://u:password-1@example.org"), {}, "MODEL_URL must be a URL"),
    (("--model-url", "https://[password-1"), {}, "MODEL_URL must be a URL"),
    (("--poll", "0"), {}, "--poll and --timeout must be more than 0"),
    (("--model-sha256", "abc"), {}, "must be 64 hexadecimal digits"),
    (("--env", "A-B=password-1"), {}, "--env needs NAME or NAME=VALUE"),
    (("--env", "PORT=1"), {}, "--env needs NAME or NAME=VALUE"),
    (("--env", "NOT_THERE"), {}, "--env NOT_THERE: this environment has no such variable"),
    (("--env", "A=password-1\npassword-2"), {}, "a value must be one line"),
]
SETTINGS = {
    "render": [
        ("RENDER_API_KEY", "", "RENDER_API_KEY must be set to a token"),
        ("RENDER_SERVICE_ID", "../owners", "RENDER_SERVICE_ID must be set to the service's id"),
        ("RENDER_SERVICE_ID", "srv-other", "404 not found"),
        ("RENDER_API_URL", "http://example.org/v1", "RENDER_API_URL must start with https://"),
        ("RENDER_API_URL", "https://[", "RENDER_API_URL must start with https://"),
    ],
    "cloud-run": [
        ("GCP_ACCESS_TOKEN", "", "GCP_ACCESS_TOKEN must be set to a token"),
        ("GCP_ACCESS_TOKEN", "wrong-token", "401 (is GCP_ACCESS_TOKEN right, and not expired?)"),
        ("GCP_PROJECT", "", "GCP_PROJECT must be set"),
        ("GCP_REGION", "europe/../west", "GCP_REGION must be set"),
        ("CLOUD_RUN_SERVICE", "Cats", "CLOUD_RUN_SERVICE must be set"),
        ("CLOUD_RUN_API_URL", "http://example.org", "CLOUD_RUN_API_URL must start with https://"),
    ],
}
CLASSES = {"render": Render, "cloud-run": CloudRun}


@of("render")
def test_wrong_options_change_nothing(place, deploy):
    deploy.secrets += ("wrong-key", "wrong\nkey", "password-1", "password-2")
    processes = [
        deploy.begin(*NEW, *options, **env) for options, env, _ in REJECTED
    ]  # together: it saves time
    for process, (_, _, reason) in zip(processes, REJECTED, strict=True):
        done = deploy.end(process)
        assert done.code == 1
        assert done.error.count("\n") == 1
        assert reason in done.error
        assert done.error.endswith("; nothing was changed\n")
    assert place.serves() == OLD
    assert not place.provider.count(*place.start)


@of(*APIS)
def test_wrong_settings_are_named(place):
    for name, value, reason in SETTINGS[place.target]:
        with pytest.raises(DeployError, match=re.escape(reason)):
            CLASSES[place.target](place.env() | {name: value}, OPTIONS).current()
    assert not place.provider.count(*place.start)


@of(*APIS)
def test_a_date_in_retry_after_is_obeyed(place, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(CANCELLATION, "pause", pauses.append)
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    place.provider.faults += [Fault("GET", ".*/(srv-standin|cats-vs-dogs)", 429, {"Retry-After": date})]
    assert CLASSES[place.target](place.env(), OPTIONS).current().image == f"{IMAGE}:old"
    assert pauses == [60.0]  # the longest pause
