"""What is special about Cloud Run; test_every_target.py has the rest."""

import threading

import pytest

from tests.helpers.places import (
    CLOUD_RUN_SERVICE,
    IMAGE,
    NEW,
    NEW_URL,
    OLD_ENV,
    OLD_URL,
    CloudRunPlace,
    sha256,
)
from tests.helpers.waiting import until
from tests.standins.cloud_run import LATEST, REVISION, CloudRun
from tests.standins.provider import Fault

OLD = ("old", OLD_URL)


@pytest.fixture
def target() -> str:
    return "cloud-run"


@pytest.fixture
def cloud_run(place: CloudRunPlace) -> CloudRun:
    return place.provider


def test_the_new_revision_keeps_what_is_not_named(cloud_run, deploy):
    old = cloud_run.live()
    images = {"GCP_IMAGES": "europe-docker.pkg.dev/demo/ghcr"}
    done = deploy(*NEW, "--image", "ghcr.io/owner/repo:new", "--env", "LOG_LEVEL=debug", **images)
    assert done.code == 0, done.output
    new = cloud_run.live()
    changed = {"MODEL_URL": NEW_URL, "MODEL_SHA256": sha256(NEW_URL), "LOG_LEVEL": "debug"}
    assert new.env() == OLD_ENV | changed
    (container,) = new.template["containers"]
    assert container["image"] == "europe-docker.pkg.dev/demo/ghcr/owner/repo:new"
    assert container["resources"] == {"limits": {"memory": "1Gi"}}
    assert new.template["timeout"] == "60s"
    assert cloud_run.traffic[0] == {"type": LATEST, "percent": 100}
    assert cloud_run.tags() == {"previous": old.name}
    assert f"smoke test of {new.front.url}" in done.out  # before it gets traffic
    assert f"smoke test of {cloud_run.front.url}" in done.out
    assert done.outputs == f"url={cloud_run.front.url}\n"


def test_a_revision_that_fails_the_smoke_test_never_gets_traffic(cloud_run, deploy):
    seen = set()
    watching = threading.Event()

    def watch() -> None:
        while not watching.wait(0.002):
            seen.add(cloud_run.front.instance)

    thread = threading.Thread(target=watch)
    thread.start()
    done = deploy("--image", f"{IMAGE}:broken", "--model-url", NEW_URL, "--env", "LOG_LEVEL=debug")
    watching.set()
    thread.join()
    assert done.code == 1
    assert seen == {cloud_run.front.instance}
    assert cloud_run.tags() == {}
    assert deploy("--image", f"{IMAGE}:new").code == 0
    assert cloud_run.live().env() == OLD_ENV  # and not the variables of the revision that failed


def test_a_revision_that_does_not_start_names_its_log(cloud_run, deploy, place):
    done = deploy("--image", f"{IMAGE}:crash", "--model-url", NEW_URL)
    assert "log: https://console.cloud.google.com/logs/viewer?project=demo" in done.out
    assert place.serves() == OLD
    assert deploy(*NEW).code == 0
    assert place.serves() == ("new", NEW_URL)


def test_it_fails_once_it_has_the_traffic(cloud_run, deploy, place, tmp_path):
    smoke = tmp_path / "second.sh"  # passes at the tag's URL, and after the rollback
    smoke.write_text(f'[ "$1" != {cloud_run.front.url} ] || curl -s "$1/model" | grep -q {sha256(OLD_URL)}')
    done = deploy(*NEW, "--smoke-test", str(smoke))
    assert done.code == 1
    assert "gets the traffic" in done.out
    assert place.serves() == OLD


def test_someone_else_changes_the_service(cloud_run, deploy, place):
    conflict = "Conflict for resource 'cats-vs-dogs': version '1' was specified but current version is '2'."
    cloud_run.faults += [Fault("PATCH", CLOUD_RUN_SERVICE, 409, message=conflict)]
    done = deploy(*NEW)
    assert done.code == 1
    assert conflict in done.error
    assert place.serves() == OLD
    assert deploy(*NEW).code == 0
    cloud_run.faults += [Fault("PATCH", CLOUD_RUN_SERVICE, 409, message=conflict)]
    done = deploy("--rollback")
    assert done.code == 0, done.output  # a rollback tries again
    assert place.serves() == OLD


def test_an_update_that_is_under_way_is_waited_for(cloud_run, deploy, place):
    cloud_run.gate.clear()
    other = threading.Thread(target=cloud_run.make, args=(f"{IMAGE}:other",), kwargs=OLD_ENV)
    other.start()
    until(lambda: cloud_run.reconciling)
    process = deploy.begin("--image", f"{IMAGE}:broken", "--model-url", NEW_URL)
    until(lambda: cloud_run.count("GET", CLOUD_RUN_SERVICE) >= 2)
    cloud_run.gate.set()
    done = deploy.end(process)
    other.join()
    assert "an update that began before is under way" in done.out
    assert done.code == 1
    assert place.serves() == ("other", OLD_URL)


def test_back_by_hand_and_forward_again(cloud_run, deploy, place):
    assert deploy("--image", f"{IMAGE}:broken").code == 1
    assert deploy(*NEW).code == 0
    new = cloud_run.live().name
    assert deploy("--rollback").code == 0  # past the one that failed
    assert place.serves() == OLD
    again = deploy("--rollback")
    assert again.code == 1
    assert "no other revision is tagged previous; name the one to go back to" in again.error
    assert deploy("--rollback", new).code == 0
    assert place.serves() == ("new", NEW_URL)


@pytest.mark.parametrize("fails_at", ["its own URL", "the service's URL"])
def test_a_rollback_after_a_failed_deploy_goes_to_the_revision_before(
    cloud_run, deploy, place, tmp_path, fails_at
):
    old = cloud_run.live().name
    assert deploy(*NEW).code == 0
    options = ("--image", f"{IMAGE}:{'broken' if fails_at == 'its own URL' else 'three'}")
    if fails_at == "the service's URL":
        smoke = tmp_path / "second.sh"
        smoke.write_text(f'[ "$1" != {cloud_run.front.url} ]')
        options += ("--smoke-test", str(smoke))
    assert deploy(*options).code in (1, 2)
    assert place.serves() == ("new", NEW_URL)
    assert cloud_run.tags() == {"previous": old}
    done = deploy("--rollback")
    assert done.code == 0, done.output
    assert place.serves() == OLD


def test_a_rollback_never_goes_to_the_revision_that_serves(cloud_run, deploy):
    old = cloud_run.live().name
    assert deploy(*NEW).code == 0
    # As after `gcloud run services update-traffic --to-revisions`, which keeps the tags.
    by_name = {"type": REVISION, "revision": old}
    cloud_run.traffic = cloud_run.statuses = [by_name | {"percent": 100}, by_name | {"tag": "previous"}]
    done = deploy("--rollback")
    assert done.code == 1
    assert "no other revision is tagged previous" in done.error


def test_tags_of_others_stay(cloud_run, deploy):
    old = cloud_run.live().name
    theirs = {"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION", "revision": old, "tag": "theirs"}
    cloud_run.traffic.append(theirs)
    assert deploy(*NEW).code == 0
    assert cloud_run.tags() == {"previous": old, "theirs": old}


def test_split_traffic_is_rejected(cloud_run, deploy):
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
