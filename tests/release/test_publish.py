"""Publishing: the content of a release, and that the latest release is complete whatever is interrupted."""

import base64
import collections
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
import tomllib
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.model_source import source as model_source
from app.model_source.source import ModelSourceError
from app.settings import Settings
from ml import cli
from ml.model import VERSION
from ml.model.errors import PipelineError
from release import files
from release.__main__ import COMMANDS
from release.files import collect
from release.github import GitHub
from release.publish import Publisher
from release.transport import Patience
from scripts.standins import github as standin
from scripts.standins.github import REPOSITORY, TOKEN, Fault
from scripts.standins.github_store import Asset
from tests.helpers.paths import ROOT
from tests.helpers.project import command, make_project, run
from tests.helpers.waiting import HANG_S
from tests.standins.artifactory import Artifactory

FAST = Patience(attempts=4, pause_s=0.01, unclear_s=0.03, total_s=HANG_S, connect_s=HANG_S, response_s=HANG_S)
NAMES = {"model.pt", "model.pt.sha256", "MODEL_CARD.md", "metrics.json", "plot0.png"}
FORMER = {"model.pt": b"the former model", "model.pt.sha256": b"its sum"}


class Latest(standin.GitHub):
    """A GitHub with a release; at each step of each request it checks that the latest release is complete."""

    def __init__(self):
        super().__init__()
        self.former = self.store.add("v1.0.0", FORMER)
        self.expected = NAMES
        self.broken = []
        self.fault = lambda step: None
        self.hook = self._look
        self.seen.clear()

    def _look(self, step):
        fault = self.fault(step)
        with self.store.lock:
            latest = self.store.latest()
            files = self.store.of(latest)
            names = {asset.name for asset in files}
            complete = all(asset.state == "uploaded" for asset in files)
            if not complete or (latest.id != self.former.id and not names >= self.expected):
                self.broken.append((step, names))
        return fault

    def writes(self):
        return [(method, path) for method, path, _ in self.seen if method != "GET"]

    def served(self, name="model.pt"):
        """Download a file of the latest release as a deployment does, through both redirects."""
        with urllib.request.urlopen(self.download_url(name), timeout=HANG_S) as response:
            return response.read()

    def check_published(self, project, tag="v1.1.0"):
        """Check that the release is the latest one and complete, and that no draft is left."""
        model = (project / "models/model.pt").read_bytes()
        assert self.broken == []
        assert self.served() == model
        assert self.served("model.pt.sha256").decode() == f"{hashlib.sha256(model).hexdigest()}  model.pt\n"
        assert self.store.latest().tag == tag
        assert {asset.name for asset in self.store.of(self.store.latest())} >= self.expected
        assert [release.tag for release in self.store.all()] == [tag, "v1.0.0"]
        assert not any(release.draft for release in self.store.all())


@pytest.fixture
def github():
    with Latest().serving() as github:
        yield github
        assert github.broken == []


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = make_project(tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


def publish(project, github, *arguments, tag="v1.1.0", token=TOKEN, **env):
    """Publish in a process of its own; return exit code, standard output and standard error."""
    return run(project, "release", "publish", "--tag", tag, *arguments, **github.environment(token), **env)


@pytest.fixture
def publish_here(project, github, monkeypatch, capsys):
    """Publish in this process; return exit code, standard output and standard error."""

    def publish(*arguments, tag="v1.1.0", token=TOKEN, **env):
        for name in ("URL", "TOKEN", "REPOSITORY"):
            monkeypatch.delenv(f"ARTIFACTORY_{name}", raising=False)
        for name in ("GITHUB_TOKEN", "MODEL_SIGNING_KEY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in (github.environment(token) | env).items():
            monkeypatch.setenv(name, value)
        code = 0
        try:
            cli.run("release", "", COMMANDS, ["publish", "--tag", tag, *arguments])
        except SystemExit as error:
            print(error.code, file=sys.stderr)
            code = 1
        return code, *capsys.readouterr()

    return publish


def publisher_of(github, folder, tag="v1.1.0", **options):
    """Return a publisher of the project in the working folder, with little patience."""
    folder.mkdir(exist_ok=True)
    repository = GitHub(REPOSITORY, TOKEN, github.url, FAST, lambda line: None)
    return Publisher(repository, tag, collect(folder, "http://x/model.pt"), **options)


def test_everything_is_published_and_a_second_run_changes_nothing(github, project):
    (project / "attestation.json").write_text("{}")
    arguments = ("--asset", "attestation.json", "--target", "a" * 40)
    code, output, error = publish(project, github, *arguments)
    assert (code, error) == (0, "")
    github.check_published(project)
    latest = github.store.latest()
    assert latest.target == "a" * 40
    assert {asset.name for asset in github.store.of(latest)} == NAMES | {"attestation.json"}
    assert "published v1.1.0" in output
    assert github.download_url("model.pt", "v1.1.0") in latest.body
    assert f"Made with cats-vs-dogs {VERSION}." in latest.body
    metrics = json.loads(github.served("metrics.json"))
    assert metrics["twin"]["accuracy"] == 0.97
    assert metrics["test_digest"] == "e" * 64
    assert metrics["sha256"] == hashlib.sha256(github.served()).hexdigest()
    assert github.served("MODEL_CARD.md") == b"# A model card\n"
    patch = [path for method, path in github.writes() if method == "PATCH"]
    assert len(patch) == 1  # nothing is public before it

    github.seen.clear()
    code, output, error = publish(project, github, *arguments)
    assert (code, error) == (0, "")
    assert "v1.1.0 is published with this model" in output
    assert github.writes() == []


def steps_of_a_publication(tmp_path):
    """Return each step of an undisturbed publication as (request, phase).

    The end of a request that reads is left out: for both sides it equals the beginning of the next request.
    """
    steps = []
    with Latest().serving() as github:
        github.fault = lambda step: steps.append(step)
        code, _, error = publish(make_project(tmp_path / "project"), github)
        assert code == 0, error
    return [(s.number, s.phase) for s in steps if s.method != "GET" or s.phase != "after"]


def test_kill_9_at_every_step_leaves_a_complete_latest_release(tmp_path, monkeypatch):
    steps = steps_of_a_publication(tmp_path)
    project = tmp_path / "project"
    monkeypatch.chdir(project)
    model = (project / "models/model.pt").read_bytes()
    phases = collections.Counter(phase for _, phase in steps)
    assert phases["middle"] == len(NAMES)
    assert phases["after"] == len(NAMES) + 2  # the draft, its files, their publication
    assert phases["before"] == 19

    def kill_at(place):
        with Latest().serving() as github:
            publishing = []
            started = threading.Event()

            def kill(step):
                if (step.number, step.phase) != place:
                    return None
                started.wait(HANG_S)
                publishing[0].kill()
                publishing[0].wait(HANG_S)
                return Fault() if step.phase == "before" else None

            github.fault = kill
            with command(project, "release", "publish", "--tag", "v1.1.0", **github.environment()) as process:
                publishing.append(process)
                started.set()
                process.communicate(timeout=HANG_S)
            assert process.returncode == -9
            while github.under_way:
                time.sleep(0.01)
            github.fault = lambda step: None
            assert github.broken == []
            former = github.store.latest().id == github.former.id
            assert github.served() == (FORMER["model.pt"] if former else model)
            complete = {a.id for a in github.store.assets.values() if a.state == "uploaded"}
            publisher_of(github, tmp_path / f"made-{place[0]}-{place[1]}").run()
            github.check_published(project)
            assert complete <= set(github.store.assets)  # complete files are not uploaded again
            return former

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(kill_at, steps))
    assert len(results) == len(steps)
    assert results.count(False) == 2  # after publishing, and before leftovers are listed


@pytest.mark.parametrize("fault", [Fault(), Fault(502), Fault(500)])
def test_a_response_lost_at_any_step_does_no_harm(tmp_path, monkeypatch, fault):
    steps = steps_of_a_publication(tmp_path)
    project = tmp_path / "project"
    monkeypatch.chdir(project)
    for place in steps:
        with Latest().serving() as github:
            github.fault = lambda step, place=place: fault if (step.number, step.phase) == place else None
            publisher_of(github, tmp_path / "made").run()
            github.check_published(project)


def test_correct_files_are_kept_and_wrong_ones_replaced(github, project, tmp_path, capsys):
    """In a draft that an interrupted publisher left behind."""
    publisher = publisher_of(github, tmp_path / "made")
    metrics = (tmp_path / "made/metrics.json").read_bytes()
    there = {"metrics.json": metrics, "plot0.png": b"another picture", "notes.pdf": b"a person's file"}
    draft = github.store.add("v1.1.0", there, draft=True, body=f"Some text. {publisher._mark}")
    github.store.begin(draft, "model.pt")  # incomplete
    before = {asset.name: asset.id for asset in github.store.of(draft)}
    publisher.run()
    github.check_published(project)
    after = {asset.name: asset.id for asset in github.store.of(github.store.latest())}
    assert {name for name in before if before[name] == after[name]} == {"metrics.json", "notes.pdf"}
    assert github.store.latest().id == draft.id
    output = capsys.readouterr().out
    assert "deleted   model.pt, which was incomplete" in output
    assert "deleted   plot0.png, which was different" in output


def test_a_signed_release_is_accepted_by_a_service_with_the_public_key(
    project, github, publish_here, tmp_path
):
    private, foreign = (base64.b64encode(bytes([seed]) * 32).decode() for seed in (1, 2))
    code, output, _ = publish_here(MODEL_SIGNING_KEY=f" {private}\n")
    assert code == 0
    (public,) = re.findall(r"signed model.pt: services with MODEL_PUBLIC_KEY=(\S+) accept it", output)
    assert private not in output
    github.expected = NAMES | {"model.pt.sig"}
    github.check_published(project)

    def fetch(key):
        env = {"MODEL_URL": github.download_url("model.pt"), "MODEL_PUBLIC_KEY": key}
        env["MODEL_CACHE_DIR"] = str(tmp_path / "cache")
        return model_source.fetch(Settings.from_env(env)).path.read_bytes()

    assert fetch(public) == (project / "models/model.pt").read_bytes()
    with pytest.raises(ModelSourceError, match="not made with a key of MODEL_PUBLIC_KEY"):
        fetch(foreign)
    github.seen.clear()
    assert publish_here(MODEL_SIGNING_KEY=private)[0] == 0
    assert github.writes() == []  # the same signature again


def test_a_model_cannot_be_signed_after_its_release(publish_here):
    assert publish_here()[0] == 0
    code, _, error = publish_here(MODEL_SIGNING_KEY=base64.b64encode(bytes(32)).decode())
    assert code == 1
    assert error.startswith("error: v1.1.0 is published with this model, but without model.pt.sig;")


@pytest.mark.parametrize("key", ["abc", "-----BEGIN PUBLIC KEY-----", base64.b64encode(bytes(64)).decode()])
def test_a_signing_key_that_cannot_be_used_publishes_nothing(github, publish_here, key):
    code, output, error = publish_here(MODEL_SIGNING_KEY=key)
    assert (code, github.writes()) == (1, [])
    assert error == "error: MODEL_SIGNING_KEY: it is not an Ed25519 private key in PEM or base64\n"
    assert key not in output + error


def test_leftover_drafts_are_deleted_and_a_persons_draft_stays(github, project, tmp_path):
    publisher = publisher_of(github, tmp_path / "made")
    other_files = f"<!-- files sha256:{'0' * 64} -->"
    github.store.add("v1.1.0", {"model.pt": b"other"}, draft=True, body=other_files)
    mine = [github.store.add("v1.1.0", {}, draft=True, body=publisher._mark) for _ in range(2)]
    other_tag = github.store.add("v9.0.0", {}, draft=True, body=publisher._mark)
    person = github.store.add("v1.1.0", {}, draft=True, body="thinking about it")
    publisher.run()
    left = {release.id: release.draft for release in github.store.all()}
    assert left == {github.former.id: False, mine[0].id: False, other_tag.id: True, person.id: True}


def test_a_published_release_is_never_changed(project, github, publish_here):
    assert publish_here()[0] == 0
    github.seen.clear()
    (project / "reports/evaluate/plot0.png").write_bytes(b"another plot")
    code, output, _ = publish_here()
    assert code == 0
    assert "these files differ and stay as published: plot0.png" in output
    (project / "signature").write_text("x")
    code, _, error = publish_here("--asset", "signature")
    assert code == 1
    assert error.startswith("error: v1.1.0 is published with this model, but without signature;")
    make_project(project, "bbbbbbbbbbbb")
    for arguments in ((), ("--dry-run",)):
        code, _, error = publish_here(*arguments)
        assert code == 1
        assert error.startswith("error: v1.1.0 is published with another model.pt, or none;")
    assert github.writes() == []


@pytest.mark.parametrize("same", [True, False])
def test_two_publishers_at_once(github, tmp_path, same):
    projects = [
        make_project(tmp_path / f"project{number}", "a" * 12 if same else "ab"[number] * 12)
        for number in (0, 1)
    ]
    at_creation = threading.Barrier(2)

    def together(step):
        if step.method == "POST" and step.phase == "before" and "/uploads/" not in step.path:
            at_creation.wait(HANG_S)  # neither has seen a draft

    github.fault = together
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda project: publish(project, github), projects))
    winners = [number for number, (code, _, _) in enumerate(results) if code == 0]
    assert len(winners) == (2 if same else 1), results
    github.check_published(projects[winners[0]])
    if not same:
        assert "published with another model.pt" in results[1 - winners[0]][2]


def test_a_draft_that_another_publisher_publishes_is_left_alone(github, project, tmp_path):
    """A file was incomplete when they were listed; the draft is published before that would be deleted."""
    publisher = publisher_of(github, tmp_path / "made")
    files = {file.name: file.path.read_bytes() for file in publisher._contents.files}
    model = files.pop("model.pt")
    draft = github.store.add("v1.1.0", files, draft=True, body=publisher._mark)
    half = github.store.begin(draft, "model.pt")

    def other(step):
        if step.path.endswith(f"/releases/{draft.id}") and step.phase == "before":
            github.store.finish(half, model)
            github.store.change(draft, {"tag_name": "v1.1.0", "draft": False})

    github.fault = other
    publisher.run()
    github.check_published(project)
    assert github.writes() == []


def test_a_file_that_someone_deletes_from_the_draft_keeps_it_from_being_published(github, project, tmp_path):
    publisher = publisher_of(github, tmp_path / "made")

    def delete(step):
        """Delete the model once the last file has arrived."""
        if step.method == "POST" and step.phase == "after" and step.path.endswith("plot0.png"):
            draft = next(release for release in github.store.all() if release.draft)
            del github.store.assets[github.store.find(draft, "model.pt").id]

    github.fault = delete
    with pytest.raises(PipelineError, match="has been changed by someone else"):
        publisher.run()
    assert github.store.latest().id == github.former.id
    github.fault = lambda step: None
    publisher.run()
    github.check_published(project)


def test_a_404_to_an_upload_is_tried_again(github, project, tmp_path):
    """GitHub sends it if another publisher deletes the half-uploaded asset."""
    faults = [Fault(404)]
    github.fault = lambda step: (
        faults.pop() if faults and "/uploads/" in step.path and step.phase == "before" else None
    )
    publisher_of(github, tmp_path / "made").run()
    assert not faults
    github.check_published(project)


def test_a_model_that_changes_during_publication_is_not_published(github, project, publish_here):
    """The upload must have the digest of the verified model."""
    model = project / "models/model.pt"
    flipped = bytearray(model.read_bytes())
    flipped[-1] ^= 1

    def change(step):
        if step.method == "POST" and step.path.endswith("/releases"):
            model.write_bytes(flipped)

    github.fault = change
    code, _, error = publish_here()
    assert code == 1
    assert "model.pt is not uploaded after 6 attempts" in error
    assert github.store.latest().id == github.former.id


def test_a_prerelease_is_not_the_latest(github, project, publish_here):
    """Neither in the spelling of semantic versioning nor in Python's."""
    github.store.add("v1.1.0-rc.2", {}, draft=True)
    for tag in ("v1.1.0-rc.1", "v1.1.0-rc.2", "v1.1.0rc1", "v2.0b1", "1.1.0.dev1", "v1.1.0-RC1", "v2A1"):
        assert publish_here(tag=tag)[::2] == (0, "")
        assert github.store.by_tag(tag).prerelease, tag
    assert github.store.latest().tag == "v1.0.0"


def test_a_tag_that_exists_is_used_if_its_commit_is_the_one(github, project, publish_here):
    """A token needs the right to change workflows to name the commit of an old tag."""
    github.store.tags["v1.1.0"] = "a" * 40
    code, _, error = publish_here("--target", "b" * 40)
    assert (code, github.writes()) == (1, [])
    assert f"the tag v1.1.0 exists, at commit {'a' * 40} instead of {'b' * 40}" in error
    assert publish_here("--target", "a" * 40)[::2] == (0, "")
    assert github.store.latest().tag == "v1.1.0"
    assert github.store.latest().target == "main"  # what GitHub takes if none is named


@pytest.mark.parametrize("status", [403, 404])
def test_a_new_tag_at_a_commit_with_other_workflows(github, project, publish_here, status):
    def refuse(step):
        refused = step.method == "POST" and step.path.endswith("/releases")
        return Fault(status, message="Resource not accessible by integration") if refused else None

    github.fault = refuse
    code, _, error = publish_here("--target", "a" * 40)
    assert code == 1
    assert "workflows: write" in error
    assert "git push origin COMMIT:refs/tags/TAG" in error


def test_a_tag_is_checked_without_a_model(github, project, publish_here):
    shutil.rmtree(project / "models")
    token = f"{TOKEN}_read"
    assert publish_here("--check-tag", token=token) == (0, "a release can get the tag v1.1.0\n", "")
    github.store.tags["v1.1.0"] = "a" * 40
    assert publish_here("--check-tag", "--target", "a" * 40, token=token)[0] == 0
    for tag, target, reason in (
        ("v1.1.0", "b" * 40, "at commit aaaa"), ("v1.0.0", "a" * 40, "v1.0.0 is published already"),
        ("v1.3 rc", "a" * 40, "not a valid tag"),
    ):  # fmt: skip
        code, output, error = publish_here("--check-tag", "--target", target, tag=tag, token=token)
        assert (code, output) == (1, "")
        assert reason in error


def test_a_server_without_digests_is_an_error(github, project, publish_here, monkeypatch):
    monkeypatch.setattr(Asset, "digest", None)
    code, _, error = publish_here()
    assert (code, error) == (1, "error: the API states no SHA-256 of model.pt\n")


def test_a_dry_run_sends_only_requests_that_read(github, project, publish_here, tmp_path):
    mark = publisher_of(github, tmp_path / "made")._mark
    draft = github.store.add("v1.1.0", {"plot0.png": b"other"}, draft=True, body=mark)
    code, output, _ = publish_here("--dry-run")
    assert code == 0
    assert f"would continue draft {draft.id}" in output
    assert "would replace plot0.png" in output
    assert "would upload  model.pt (" in output
    assert hashlib.sha256((project / "models/model.pt").read_bytes()).hexdigest() in output
    assert "would publish v1.1.0 as the latest release" in output
    code, output, _ = publish_here("--dry-run", token=None)
    assert code == 0
    assert "would create a draft" in output
    assert "without GITHUB_TOKEN drafts are not visible" in output
    assert github.writes() == []


@pytest.mark.parametrize(
    ("arguments", "options", "env", "expected"),
    [
        ((), {"token": None}, {}, "GITHUB_TOKEN is not set"),
        ((), {"token": "wrong"}, {}, "(401)"),
        ((), {"token": f"{TOKEN}_read"}, {}, "contents: write"),
        ((), {"token": "two words"}, {}, "GITHUB_TOKEN contains"),
        ((), {"tag": "v1/../x"}, {}, "not a valid tag"),
        ((), {}, {"GITHUB_REPOSITORY": "acme/x"}, "acme/x at 127.0.0.1: not found, or the token may"),
        ((), {}, {"ARTIFACTORY_URL": "http://acme.example"}, "must be https://"),
        ((), {}, {"ARTIFACTORY_URL": "https://acme.example"}, "ARTIFACTORY_TOKEN"),
        ((), {}, {"ARTIFACTORY_URL": "https://a.b", "ARTIFACTORY_TOKEN": "x"}, "ARTIFACTORY_REPOSITORY"),
        (("--asset", "a b"), {}, {}, "GitHub would rename it"),
        (("--asset", "missing"), {}, {}, "can't be read"),
        (("--asset", "other"), {}, {}, "can't be read"),
        (("--asset", "empty"), {}, {}, "0 bytes"),
        (("--asset", "other/Model.pt"), {}, {}, "two files have the same name: model.pt"),
        (("--notes", "missing"), {}, {}, "can't be read"),
        (("--target", "$(x)"), {}, {}, "not a commit or a branch"),
    ],
)
def test_errors_are_one_line(github, project, publish_here, arguments, options, env, expected):
    (project / "a b").write_text("x")
    (project / "empty").write_text("")
    (project / "other").mkdir()
    (project / "other/Model.pt").write_text("x")
    code, output, error = publish_here(*arguments, **options, **env)
    assert (code, output) == (1, "")
    assert expected in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert github.store.all() == [github.former]


def test_notes_become_the_text_of_the_release(github, project, publish_here):
    (project / "notes.md").write_text("Better at *tabby* cats.")
    assert publish_here("--notes", "notes.md")[0] == 0
    assert github.store.latest().body.startswith("Better at *tabby* cats.\n\n<!-- files sha256:")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda p: (p / "models/model.pt").unlink(), "is missing"),
        (lambda p: truncate(p / "models/model.pt"), "cut short"),
        (lambda p: flip(p / "models/model.pt"), "cut short"),
        (lambda p: (p / "models/model.pt").write_bytes(b"hello"), "not a ZIP"),
        (lambda p: make_project(p, card=""), "contains no model card"),
        (lambda p: (p / "reports/package/package.json").unlink(), "is missing or broken"),
        (lambda p: (p / "reports/evaluate/metrics.json").write_text("[]"), "broken"),
        (lambda p: edit(p / "reports/package/package.json", sha256="0" * 64), "sha256 differ"),
        (lambda p: edit(p / "reports/evaluate/metrics.json", temperature=1.1), "temperature differ"),
        (lambda p: edit(p / "reports/evaluate/metrics.json", test={"photos": 7}), "photos differ"),
        (lambda p: edit(p / "reports/evaluate/metrics.json", temperature=None), "incomplete"),
    ],
)
def test_a_damaged_model_or_reports_of_another_run_are_rejected(github, project, tmp_path, damage, expected):
    damage(project)
    with pytest.raises(PipelineError, match=expected) as error:
        publisher_of(github, tmp_path / "made")
    assert "\n" not in str(error.value)


def write_rejection(project, model):
    """Write the gate's report that rejects the model of another project."""
    digest = hashlib.sha256((model / "models/model.pt").read_bytes()).hexdigest()
    judged = {"passed": False, "reasons": ["log loss is above"], "candidate": {"sha256": digest}}
    (project / "reports/gate.json").write_text(json.dumps(judged))


def test_a_rejected_model_is_not_published(project, tmp_path, github):
    digest = hashlib.sha256((project / "models/model.pt").read_bytes()).hexdigest()
    decided = {"verdict": "no clear difference", "reasons": ["the champion stays"], "sha256": digest}
    path = project / "reports/promotion.json"
    path.write_text(json.dumps(decided))
    publisher_of(github, tmp_path / "made")  # not the champion, but not worse
    path.write_text(json.dumps(decided | {"verdict": "worse", "sha256": "0" * 64}))
    publisher_of(github, tmp_path / "made")  # the decision is about another model
    path.write_text(json.dumps(decided | {"verdict": "worse"}))
    with pytest.raises(PipelineError, match="rejected: the champion stays"):
        publisher_of(github, tmp_path / "made")
    path.unlink()
    write_rejection(project, make_project(tmp_path / "other", "bbbbbbbbbbbb"))
    publisher_of(github, tmp_path / "made")  # the report is about another model
    write_rejection(project, project)
    with pytest.raises(PipelineError, match="rejected by the gate: log loss is above"):
        publisher_of(github, tmp_path / "made")


def test_a_candidate_is_published_only_if_it_is_forced(project, github, publish_here):
    make_project(project, "cccccccccccc-candidate", shortfalls=["worse than a linear probe: 3 of 9"])
    code, _, error = publish_here()
    assert code == 1
    assert "is only a candidate (worse than a linear probe: 3 of 9); to publish it nevertheless, add" in error
    assert github.store.latest() is None or github.store.latest().tag != "v1.1.0"
    code, _, error = publish_here("--candidate")
    assert code == 0, error
    assert "only a candidate" in github.store.latest().body
    metrics = json.loads(github.store.find(github.store.latest(), "metrics.json").data)
    assert metrics["version"] == "cccccccccccc-candidate"


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # inside the weights
    path.write_bytes(data)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_large_files_are_not_read_into_memory(github, project):
    """The process holds a fraction of a 200 MB file. It is killed in the middle of the upload."""
    with (project / "large.bin").open("wb") as file:
        file.truncate(200 << 20)
    publishing, peak = [], []

    def look(step):
        if step.phase == "middle" and "large.bin" in step.path:
            status = Path(f"/proc/{publishing[0].pid}/status").read_text()
            peak.append(int(re.search(r"VmHWM:\s+([0-9]+) kB", status)[1]))
            publishing[0].kill()

    github.fault = look
    arguments = ("--tag", "v1.1.0", "--asset", "large.bin")
    with command(project, "release", "publish", *arguments, **github.environment()) as process:
        publishing.append(process)
        process.communicate(timeout=HANG_S)
    assert peak[0] < 120_000  # kB


def test_no_secret_is_printed(github, project, publish_here):
    github.fault = lambda step: Fault(418, message=f"hello {TOKEN}") if step.number == 9 else None
    code, output, error = publish_here()
    assert code == 1
    assert "hello" in error
    assert TOKEN not in output + error


def test_artifactory_gets_the_files_too(github, project, publish_here):
    with Artifactory("art-token").serving() as store:
        env = {
            "ARTIFACTORY_URL": store.url,
            "ARTIFACTORY_TOKEN": "art-token",
            "ARTIFACTORY_REPOSITORY": "models-local/vision",
        }
        folder = "/artifactory/models-local/vision/cats-vs-dogs/v1.1.0"
        store.failures = [503]
        code, output, error = publish_here(**env)
        assert code == 0, error
        assert "next attempt" in error
        assert {path.rpartition("/")[2] for path in store.files if path.startswith(folder)} == NAMES
        assert store.files[f"{folder}/model.pt"] == (project / "models/model.pt").read_bytes()
        # After its digest and its signature, without which a service doesn't start.
        assert [path for method, path in store.seen if method == "PUT"][-1] == f"{folder}/model.pt"
        store.seen.clear()
        assert publish_here(**env)[0] == 0
        assert {method for method, _ in store.seen} == {"HEAD"}
        store.files[f"{folder}/plot0.png"] = b"another"
        assert "plot0.png exists with other content, and is kept" in publish_here(**env)[1]
        store.files = {f"{folder}/model.pt": b"another"}
        code, _, error = publish_here(**env)
        assert code == 1
        assert "which is not replaced" in error
        assert len(store.files) == 1
        code, output, error = publish_here(**env | {"ARTIFACTORY_TOKEN": "wrong"})
        assert code == 1
        assert "ARTIFACTORY_TOKEN is not accepted" in error
        assert "wrong" not in output + error


# Simulates the environment of the job that publishes, which has the top-level modules in ALLOWED.
BLOCKER = """import os, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in os.environ["ALLOWED"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def modules_of_the_release_group() -> set[str]:
    """Top-level modules of the packages that pyproject.toml asks for, and of those that they need."""
    queue = [
        (line, "")
        for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["release"]
    ]
    packages: set[str] = set()
    while queue:
        text, extra = queue.pop()
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        packages.add(canonicalize_name(requirement.name))
        for needed in metadata.requires(requirement.name) or []:
            queue += [(needed, extra) for extra in ("", *requirement.extras)]
    modules = metadata.packages_distributions()
    return {
        name for name, owners in modules.items() if packages & {canonicalize_name(owner) for owner in owners}
    }


def test_publishing_needs_only_what_its_job_installs(github, project, tmp_path):
    (tmp_path / "blocker").mkdir()
    (tmp_path / "blocker/sitecustomize.py").write_text(BLOCKER)
    installed = modules_of_the_release_group()
    assert not {"flask", "onnxruntime", "waitress", "torch", "mlflow", "pytest"} & installed
    env = github.environment() | {"PYTHONPATH": f"{tmp_path / 'blocker'}{os.pathsep}{ROOT}"}
    env["ALLOWED"] = " ".join({"ml", "release", *installed})
    assert "No module named 'flask'" in run(project, "flask", **env)[2]
    key = base64.b64encode(bytes(32)).decode()
    for arguments in (("publish", "--tag", "v1.1.0"), ("model-url",)):
        code, output, error = run(project, "release", *arguments, **env, MODEL_SIGNING_KEY=key)
        assert code == 0, error
        assert output
    github.check_published(project)


def test_a_model_that_is_replaced_while_it_is_read_is_not_published(github, project, tmp_path, monkeypatch):
    read = files._figures

    def replace(model):
        figures = read(model)
        make_project(project, "bbbbbbbbbbbb")
        return figures

    monkeypatch.setattr(files, "_figures", replace)
    with pytest.raises(PipelineError, match="has changed while it was read: run the command again"):
        publisher_of(github, tmp_path / "made")


MARKED = "v1.5.0"
"""The release of a bad model, which was marked as a prerelease as the runbook says."""


@pytest.mark.parametrize(
    ("tag", "others", "latest"),
    [
        ("v0.9.9", [], "v1.0.0"),
        ("v1.0", [], "v1.0"),  # equal, so the later one
        ("v1.9.1", ["v1.10.0"], "v1.10.0"),
        ("v1.9.1+fix", ["v1.10"], "v1.10"),
        ("v1.10.0", ["v1.9.1", "v1.9.0"], "v1.10.0"),
        ("v1.1.0", ["v2.0.0-rc.1", "nightly"], "v1.1.0"),
        ("v1.1.0", [MARKED], "v1.1.0"),
        ("nightly", ["v1.1.0"], "nightly"),
        ("v1.2.3.post1", ["v1.1.0"], "v1.2.3.post1"),
    ],
)
def test_a_release_of_an_older_version_does_not_become_the_latest(
    github, project, tmp_path, capsys, tag, others, latest
):
    for other in others:
        github.store.add(other, dict.fromkeys(NAMES, b"x"), prerelease="-" in other or other == MARKED)
    publisher_of(github, tmp_path / "made", tag).plan()
    publisher_of(github, tmp_path / "made", tag).run()
    assert github.store.latest().tag == latest
    assert not github.store.by_tag(tag).prerelease
    kind = "the latest" if tag == latest else f"a release that is not the latest, because {latest}"
    output = capsys.readouterr().out
    assert f"would publish {tag} as {kind}" in output
    assert f"\npublished {tag} as {kind}" in output
