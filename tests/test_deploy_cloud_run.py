"""Deploys to Cloud Run, against a stand-in of its Admin API."""

import hashlib
import signal
import threading

import pytest

from tests.deploying import Deploying
from tests.standins.cloud_run import LATEST, CloudRun
from tests.standins.provider import Fault
from tests.waiting import HANG_S, until

TOKEN = "ya29.0123456789abcdef"
IMAGE = "registry.example/cats-vs-dogs"
OLD_URL, NEW_URL = "https://example.org/v1/model.pt", "https://example.org/v2/model.pt"
SERVICE = "/projects/demo/locations/europe-west1/services/cats-vs-dogs"


def sha256(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


NEW = ("--image", f"{IMAGE}:new", "--model-url", NEW_URL, "--model-sha256", sha256(NEW_URL))
OLD_ENV = {"MODEL_URL": OLD_URL, "MODEL_SHA256": sha256(OLD_URL), "API_KEYS": "owners-secret-key"}


@pytest.fixture
def cloud_run():
    with CloudRun(token=TOKEN).serving() as cloud_run:
        cloud_run.make(f"{IMAGE}:old", **OLD_ENV)
        yield cloud_run


@pytest.fixture
def deploy(cloud_run, tmp_path):
    env = {"GCP_ACCESS_TOKEN": TOKEN, "GCP_PROJECT": "demo", "GCP_REGION": "europe-west1"}
    env |= {"CLOUD_RUN_SERVICE": "cats-vs-dogs", "CLOUD_RUN_API_URL": cloud_run.url}
    with Deploying(tmp_path, "cloud-run", (TOKEN, "owners-secret-key"), **env) as deploying:
        yield deploying


def serves(cloud_run: CloudRun) -> tuple[str, str]:
    """The image's tag and the model of the revision that gets the traffic."""
    revision = cloud_run.live()
    assert cloud_run.front.instance is revision.instance
    return revision.template["containers"][0]["image"].rpartition(":")[2], revision.env()["MODEL_URL"]


OLD = ("old", OLD_URL)


def test_a_deploy_that_passes(cloud_run, deploy):
    old = cloud_run.live()
    done = deploy(*NEW, "--env", "LOG_LEVEL=debug")
    assert done.code == 0, done.said
    assert serves(cloud_run) == ("new", NEW_URL)
    new = cloud_run.live()
    assert new.env() == OLD_ENV | {
        "MODEL_URL": NEW_URL,
        "MODEL_SHA256": sha256(NEW_URL),
        "LOG_LEVEL": "debug",
    }
    assert new.template["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}}
    assert new.template["timeout"] == "60s"
    assert cloud_run.traffic[0] == {"type": LATEST, "percent": 100}
    assert cloud_run.tags() == {"previous": old.name}
    assert f"smoke test of {new.front.url}" in done.out  # before it gets the traffic
    assert f"smoke test of {cloud_run.front.url}" in done.out
    assert done.error == ""
    assert done.outputs == f"url={cloud_run.front.url}\n"


def test_what_fails_the_smoke_test_never_gets_traffic(cloud_run, deploy):
    seen = set()
    watching = threading.Event()

    def watch() -> None:
        while not watching.wait(0.002):
            seen.add(cloud_run.front.instance)

    thread = threading.Thread(target=watch)
    thread.start()
    done = deploy("--image", f"{IMAGE}:broken", "--model-url", NEW_URL)
    watching.set()
    thread.join()
    assert done.code == 1
    assert "failed (the smoke test failed); what served before serves again" in done.error
    assert serves(cloud_run) == OLD
    assert seen == {cloud_run.front.instance}
    assert cloud_run.tags() == {}


def test_the_deploy_after_a_rollback_carries_on_what_serves(cloud_run, deploy):
    assert deploy("--image", f"{IMAGE}:broken", "--model-url", NEW_URL, "--env", "LOG_LEVEL=debug").code == 1
    assert deploy("--image", f"{IMAGE}:new").code == 0
    assert cloud_run.live().env() == OLD_ENV


def test_a_revision_that_does_not_start(cloud_run, deploy):
    done = deploy("--image", f"{IMAGE}:crash", "--model-url", NEW_URL)
    assert done.code == 1
    assert "is not ready and cannot serve traffic. The user-provided container failed to start" in done.error
    assert "log: https://console.cloud.google.com/logs/viewer?project=demo" in done.out
    assert serves(cloud_run) == OLD
    assert deploy(*NEW).code == 0
    assert serves(cloud_run) == ("new", NEW_URL)


def test_it_fails_once_it_has_the_traffic(cloud_run, deploy, tmp_path):
    smoke = tmp_path / "second.sh"  # passes at the tag's URL, and once it is rolled back
    smoke.write_text(f'[ "$1" != {cloud_run.front.url} ] || curl -s "$1/model" | grep -q {sha256(OLD_URL)}')
    done = deploy(*NEW, "--smoke-test", str(smoke))
    assert done.code == 1
    assert "gets the traffic" in done.out
    assert serves(cloud_run) == OLD


def test_a_rollback_that_fails(cloud_run, deploy):
    cloud_run.start_s = 3
    process = deploy.begin("--image", f"{IMAGE}:stuck", "--model-url", NEW_URL)
    until(lambda: len(cloud_run.revisions) == 2)
    with cloud_run.lock:
        cloud_run.faults += [Fault("PATCH", SERVICE, 403, message="Permission denied.") for _ in range(5)]
        cloud_run.traffic = [{"type": LATEST, "percent": 100}]
        cloud_run.statuses = []  # nobody gets any
    done = deploy.end(process)
    assert done.code == 2
    assert "and so did the rollback" in done.error
    assert "403 Permission denied. (may GCP_ACCESS_TOKEN do this?)" in done.error


def test_somebody_else_changes_the_service(cloud_run, deploy):
    conflict = "Conflict for resource 'cats-vs-dogs': version '1' was specified but current version is '2'."
    cloud_run.faults += [Fault("PATCH", SERVICE, 409, message=conflict)]
    done = deploy(*NEW)
    assert done.code == 1
    assert conflict in done.error
    assert serves(cloud_run) == OLD
    assert deploy(*NEW).code == 0
    cloud_run.faults += [Fault("PATCH", SERVICE, 409, message=conflict)]
    done = deploy("--rollback")
    assert done.code == 0, done.said  # it tries again
    assert serves(cloud_run) == OLD


def test_an_update_that_is_under_way_is_waited_for(cloud_run, deploy):
    cloud_run.gate.clear()
    other = threading.Thread(target=cloud_run.make, args=(f"{IMAGE}:other",), kwargs=OLD_ENV)
    other.start()
    until(lambda: cloud_run.reconciling)
    process = deploy.begin("--image", f"{IMAGE}:broken", "--model-url", NEW_URL)
    until(lambda: cloud_run.count("GET", SERVICE) >= 2)
    cloud_run.gate.set()
    done = deploy.end(process)
    other.join()
    assert "an update that was begun before is under way" in done.out
    assert done.code == 1
    assert serves(cloud_run) == ("other", OLD_URL)


def test_the_api_falters(cloud_run, deploy):
    cloud_run.faults += [
        Fault("GET", SERVICE, 429, {"Retry-After": "1"}, message="Quota exceeded."),
        Fault("GET", ".*/operations/.*", 503),
        Fault("GET", ".*/operations/.*"),
        Fault("PATCH", SERVICE, carried_out=True),
    ]
    done = deploy(*NEW)
    assert done.code == 0, done.said
    assert cloud_run.faults == []
    assert "429 Quota exceeded.; again in 1 s" in done.out
    assert len(cloud_run.revisions) == 2


def test_it_takes_too_long(cloud_run, deploy):
    cloud_run.start_s = HANG_S
    done = deploy("--image", f"{IMAGE}:stuck", "--model-url", NEW_URL, "--timeout", "0.5")
    assert done.code == 1
    assert "not done after" in done.error
    assert serves(cloud_run) == OLD


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_cancelled(cloud_run, deploy, number):
    cloud_run.start_s = HANG_S
    process = deploy.begin("--image", f"{IMAGE}:stuck", "--model-url", NEW_URL)
    done = deploy.cancel(process, lambda: len(cloud_run.revisions) == 2, number)
    assert done.code == 1
    assert "failed (cancelled); what served before serves again" in done.error
    assert serves(cloud_run) == OLD
    assert cloud_run.tags() == {}


def test_killed_and_run_again(cloud_run, deploy):
    process = deploy.begin("--image", f"{IMAGE}:stuck", "--model-url", NEW_URL)
    assert deploy.cancel(process, lambda: len(cloud_run.revisions) == 2, signal.SIGKILL).code == -9
    assert deploy(*NEW).code == 0
    assert serves(cloud_run) == ("new", NEW_URL)


def test_back_by_hand(cloud_run, deploy):
    old = cloud_run.live().name
    assert deploy("--image", f"{IMAGE}:broken").code == 1
    assert deploy(*NEW).code == 0
    new = cloud_run.live().name
    assert deploy("--rollback").code == 0  # past the one that failed
    assert serves(cloud_run) == OLD
    again = deploy("--rollback")
    assert again.code == 1
    assert "no revision is tagged previous; name the one to go back to" in again.error
    assert deploy("--rollback", new).code == 0
    assert deploy("--rollback", old).code == 0
    assert "404 Resource" in deploy("--rollback", "cats-vs-dogs-none").error


def test_tags_of_others_stay(cloud_run, deploy):
    old = cloud_run.live().name
    theirs = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": old, "tag": "theirs"}
    cloud_run.traffic.append(theirs)
    assert deploy(*NEW).code == 0
    assert cloud_run.tags() == {"previous": old, "theirs": old}


def test_split_traffic_is_refused(cloud_run, deploy):
    old = cloud_run.live().name
    cloud_run.make(f"{IMAGE}:other", **OLD_ENV)
    half = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": old, "percent": 50}
    cloud_run.statuses = [half, {"type": LATEST, "percent": 50}]
    done = deploy(*NEW)
    assert done.code == 1
    assert "the traffic is split between" in done.error
    assert len(cloud_run.revisions) == 2


def test_no_service_yet(cloud_run, deploy):
    cloud_run.exists = False
    done = deploy(*NEW)
    assert done.code == 1
    assert "gcloud run services replace deploy/cloudrun/service.yaml; nothing was changed" in done.error


def test_bad_settings_change_nothing(cloud_run, deploy):
    deploy.secrets += ("wrong-token",)
    refused = {
        "GCP_ACCESS_TOKEN is not set": {"GCP_ACCESS_TOKEN": ""},
        "401 Authorization information is missing or invalid.": {"GCP_ACCESS_TOKEN": "wrong-token"},
        "GCP_PROJECT must be set": {"GCP_PROJECT": ""},
        "GCP_REGION must be set": {"GCP_REGION": "europe/../west"},
        "CLOUD_RUN_SERVICE must be set": {"CLOUD_RUN_SERVICE": "Cats"},
    }
    processes = [deploy.begin(*NEW, **env) for env in refused.values()]
    for process, told in zip(processes, refused, strict=True):
        done = deploy.end(process)
        assert done.code == 1
        assert told in done.error
        assert done.error.endswith("; nothing was changed\n")
    assert serves(cloud_run) == OLD
