"""The workflows: pinned, with no more rights than they need, and with no step that a laptop can't run."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy import attestation
from release import due
from tests.helpers.paths import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEXTS = {path.stem: path.read_text() for path in FILES}
# BaseLoader: with YAML 1.1's types `on` would be true.
WORKFLOWS = {name: yaml.load(text, yaml.BaseLoader) for name, text in TEXTS.items()}
JOBS = {f"{name}/{job}": what for name, flow in WORKFLOWS.items() for job, what in flow["jobs"].items()}
STEPS = [(name, step) for name, job in JOBS.items() for step in job.get("steps", [])]
RUNS = [(name, step) for name, step in STEPS if "run" in step]
DEPLOYS = {"contents": "read", "packages": "read", "attestations": "read", "id-token": "write"}
RIGHTS = {
    "ci/lint": {"contents": "read"},
    "ci/audit": {"contents": "read"},
    "ci/test": {"contents": "read"},
    "ci/serve": {"contents": "read"},
    "ci/dependencies": {"contents": "read"},
    "ci/image": {"contents": "read"},
    "ci/publish": {"contents": "read", "packages": "write", "id-token": "write", "attestations": "write"},
    "ci/deploy": DEPLOYS,
    "compare/compare": {"contents": "read"},
    "comment/comment": {"contents": "read", "actions": "read", "pull-requests": "write"},
    "release/train": {"contents": "read"},
    "release/film": {"contents": "read"},
    "release/publish": {"contents": "write", "id-token": "write", "attestations": "write"},
    "release/deploy": DEPLOYS,
    "release/withdraw": {"contents": "write"},
    "cd/deploy": DEPLOYS,
    "monitor/batch": {"contents": "read"},
    "monitor/retrain": {"contents": "read", "actions": "write"},
    "weekly/audit": {"contents": "read"},
    "weekly/retrain": {"contents": "read", "actions": "write"},
    "retrain/due": {"contents": "read", "issues": "read"},
    "retrain/release": {
        "contents": "write",
        "packages": "read",
        "attestations": "write",
        "id-token": "write",
    },
    "retrain/issue": {"contents": "read", "issues": "write"},
}


def test_each_action_is_pinned_by_its_commit() -> None:
    pins: dict[str, set[str]] = {}
    for text in TEXTS.values():
        for used in re.findall(r"^\s*(?:- )?uses: (.*)", text, re.MULTILINE):
            if used.startswith("$/"):  # this repository at the commit that runs
                assert (ROOT / used.removeprefix("$/")).is_file()
                continue
            found = re.fullmatch(r"([\w.-]+/[\w./-]+)@([0-9a-f]{40} # v\d+\.\d+\.\d+)", used)
            assert found, used
            pins.setdefault(found[1], set()).add(found[2])
    assert all(len(versions) == 1 for versions in pins.values())
    assert len(pins) >= 10


def test_rights() -> None:
    assert {name: job["permissions"] for name, job in JOBS.items()} == RIGHTS
    for flow in WORKFLOWS.values():
        assert flow["permissions"] == {}
        assert flow["defaults"]["run"]["shell"] == "bash"


def test_each_job_ends_and_queues() -> None:
    for name, job in JOBS.items():
        assert "uses" in job or int(job["timeout-minutes"]) <= 180, name
    for name, flow in WORKFLOWS.items():
        groups = [flow.get("concurrency"), *(job.get("concurrency") for job in flow["jobs"].values())]
        assert any(groups), name
    # In a workflow that is called, github.workflow is the caller's name: two callers would not wait.
    queue = {"group": "deploy-production", "cancel-in-progress": "false", "queue": "max"}
    assert JOBS["cd/deploy"]["concurrency"] == queue


def test_no_checkout_leaves_credentials() -> None:
    checkouts = [step for _, step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) >= 5
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


@pytest.mark.parametrize(("name", "step"), RUNS, ids=[f"{name}:{step['run']}" for name, step in RUNS])
def test_each_step_is_a_make_target_or_a_script(name, step) -> None:
    command = step["run"]
    assert "${{" not in command  # what others wrote must not become shell code
    if made := re.fullmatch(r"make ([a-z-]+)( [A-Z_]+=[\w-]+)*", command):
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert made[1] in targets
    elif module := re.fullmatch(r"exec \.venv/bin/python -m ([a-z]+) [a-z]+", command):
        assert (ROOT / module[1] / "__main__.py").is_file()
    else:
        script = re.fullmatch(r'(scripts/[\w.]+)( >>"\$GITHUB_OUTPUT")?', command)
        assert script, command
        assert (ROOT / script[1]).stat().st_mode & 0o111
    folders = [ROOT / name for name in ("deploy", "ml", "release", "scripts")]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".sh")]
    files.append(ROOT / "Makefile")
    sources = "".join(path.read_text() for path in files)
    for variable in step.get("env", {}):
        known = variable.startswith("AWS_")  # boto's, when DVC pulls from S3
        part = variable.partition("_")[2]  # release/artifactory.py and others put the names together
        found = re.search(rf"\b{variable}\b", sources) or (part and f'"{part}"' in sources)
        assert known or found, variable


def test_delivery_gets_what_each_target_reads() -> None:
    reads: set[str] = set()
    for module in ("deliver", "render", "cloud_run"):
        docstring = (ROOT / "deploy" / f"{module}.py").read_text().split('"""')[1]
        reads |= {*re.findall(r"\b[A-Z]+_[A-Z_]+\b", docstring)}
    set_by_github, for_tests = {"GITHUB_REPOSITORY"}, {"RENDER_API_URL", "CLOUD_RUN_API_URL"}
    assert {"RENDER_API_KEY", "GCP_REGION", "GITHUB_TOKEN", *set_by_github, *for_tests} <= reads
    _, step = (step for name, step in RUNS if name == "cd/deploy")
    assert reads - set_by_github - for_tests <= {*step["env"]}
    token = "${{ github.event.repository.private && secrets.GITHUB_TOKEN || '' }}"
    assert step["env"]["MODEL_TOKEN"] == token


def test_what_is_deployed_was_attested_by_a_job_that_comes_before() -> None:
    """deploy/attestation.py names the workflows; tests/deploy/test_attestation.py tests that it refuses."""
    _, step = (step for name, step in RUNS if name == "cd/deploy")
    assert step["run"] == "exec .venv/bin/python -m deploy deliver"
    assert step["env"]["VERIFY"] == "${{ github.event.repository.private && 'off' || 'on' }}"
    deploying = {name for name, step in RUNS if "deliver" in step["run"]}
    assert deploying == {"cd/deploy"}  # there is no other way to a deployment
    made_by = {
        attestation._IMAGE_WORKFLOW: {
            "subject-name": "${{ steps.push.outputs.name }}",
            "subject-digest": "${{ steps.push.outputs.digest }}",
            "push-to-registry": "true",
        },
        attestation._MODEL_WORKFLOW: {"subject-path": "models/model.pt"},
    }
    for file, subject in made_by.items():
        flow = WORKFLOWS[file.removesuffix(".yml")]
        assert flow["jobs"]["deploy"]["uses"] == "$/.github/workflows/cd.yml"
        assert flow["jobs"]["deploy"]["needs"] == "publish"
        steps = flow["jobs"]["publish"]["steps"]
        (made,) = (number for number, step in enumerate(steps) if "attest-build" in step.get("uses", ""))
        assert steps[made]["with"] == subject
        assert steps[made]["if"] == "${{ !github.event.repository.private }}"
        names = [step.get("run", "") for step in steps]
        # A model is attested before it is published, an image as soon as it has a digest.
        assert ("make publish" in names[made:]) == (file == "release.yml")


def test_a_release_that_could_not_be_deployed_is_withdrawn_and_reported() -> None:
    withdraw = JOBS["release/withdraw"]
    assert withdraw["needs"] == ["publish", "deploy"]
    failed = "needs.deploy.result == 'failure' || needs.deploy.result == 'cancelled'"
    assert withdraw["if"] == f"${{{{ !cancelled() && ({failed}) }}}}"
    assert withdraw["steps"][-1]["env"]["TAG"] == "${{ needs.publish.outputs.tag }}"
    (step,) = (step for name, step in RUNS if step["run"] == "make retraining-issue")
    assert step["env"]["RELEASED"] == "${{ needs.release.result }}"
    assert "needs.due.result == 'failure'" in JOBS["retrain/issue"]["if"]


def test_a_deployment_gets_the_signals_and_ends_before_its_job() -> None:
    """GitHub signals only a step's first process, and a job that takes too long counts as cancelled."""
    (step,) = (step for name, step in RUNS if "deploy deliver" in step["run"])
    assert step["run"].startswith("exec .venv/bin/python ")
    assert int(step["timeout-minutes"]) < int(JOBS["cd/deploy"]["timeout-minutes"])


def test_only_main_and_tags_make_a_latest_release() -> None:
    main, tag, prerelease = JOBS["release/train"]["if"].removeprefix("${{ ").removesuffix(" }}").split(" || ")
    assert (main, tag) == ("github.ref == 'refs/heads/main'", "startsWith(github.ref, 'refs/tags/')")
    assert prerelease == "contains(inputs.tag, '-')"


def test_secrets_and_variables_are_documented() -> None:
    used = {name for text in TEXTS.values() for name in re.findall(r"\b(?:secrets|vars)\.(\w+)", text)}
    text = (ROOT / "docs" / "deployment.md").read_text()
    missing = {name for name in used - {"GITHUB_TOKEN"} if f"`{name}`" not in text}
    assert not missing
    assert len(used) >= 10


def test_a_pull_request_sees_no_secret_and_pushes_nothing() -> None:
    assert "pull_request_target" not in "".join(TEXTS.values())
    assert [name for name, flow in WORKFLOWS.items() if "pull_request" in flow["on"]] == [
        "ci",
        "compare",
    ]
    pushes = "github.event_name == 'push'"
    for job, what in WORKFLOWS["ci"]["jobs"].items():
        if "secrets." in yaml.safe_dump(what) or "write" in what["permissions"].values():
            assert what["if"].startswith(pushes), job
    assert WORKFLOWS["ci"]["jobs"]["deploy"]["if"] == f"{pushes} && github.ref == 'refs/heads/main'"
    assert {*WORKFLOWS["ci"]["jobs"]["publish"]["needs"]} == {"lint", "test", "image"}


def test_the_job_that_comments_runs_nothing_of_the_pull_request() -> None:
    assert "secrets." not in TEXTS["compare"]
    job = JOBS["comment/comment"]
    assert WORKFLOWS["comment"]["on"]["workflow_run"]["workflows"] == [WORKFLOWS["compare"]["name"]]
    checkout, download, comment = job["steps"]
    assert {*checkout["with"]} == {"persist-credentials"}  # so it is the default branch
    assert download["with"]["path"] == "comparison"  # nothing of this repository has that name
    assert not (ROOT / "comparison").exists()
    assert comment["run"] == "scripts/comment.sh"


def test_what_calls_cd_hands_on_what_it_takes() -> None:
    call = WORKFLOWS["cd"]["on"]["workflow_call"]
    for name in ("ci/deploy", "release/deploy"):
        assert {*JOBS[name]["secrets"]} == {*call["secrets"]}
        assert {*JOBS[name]["with"]} <= {*call["inputs"]}
    assert {*call["inputs"]} <= {*WORKFLOWS["cd"]["on"]["workflow_dispatch"]["inputs"]}


def test_what_retrains_hands_on_what_a_release_takes_and_no_job_of_it_lacks_a_right() -> None:
    call = WORKFLOWS["release"]["on"]["workflow_call"]
    assert {*JOBS["retrain/release"]["secrets"]} == {*call["secrets"]}
    assert {*JOBS["retrain/release"]["with"]} == {*call["inputs"]}
    used = set(re.findall(r"secrets\.(\w+)", TEXTS["release"])) - {"GITHUB_TOKEN"}
    assert used == {*call["secrets"]}
    assert {*JOBS["release/publish"]["needs"]} == {"train", "film"}
    # Without `!cancelled()`, a job is skipped if any job before it has failed; here, without a film, too.
    for job, before in (("publish", "train"), ("deploy", "publish")):
        assert f"!cancelled() && needs.{before}.result == 'success'" in JOBS[f"release/{job}"]["if"]
    order = ("read", "write")
    granted = RIGHTS["retrain/release"]
    for job in ("release/train", "release/publish", "release/deploy"):
        for right, level in RIGHTS[job].items():
            assert order.index(granted[right]) >= order.index(level), (job, right)


def test_only_who_starts_a_release_by_hand_can_pass_what_the_gate_rejects() -> None:
    on = WORKFLOWS["release"]["on"]
    allows = {"allow_incomparable", "candidate"}
    for name, given in on["workflow_dispatch"]["inputs"].items():
        assert (name in allows) == (given["type"] == "boolean" and given["default"] == "false"), name
    assert not allows & {*on["workflow_call"]["inputs"]}
    environments = {step["run"]: step.get("env", {}) for _, step in RUNS}
    for command, names in {"make gate": allows, "make publish": {"candidate"}}.items():
        for name in allows:
            expected = f"${{{{ inputs.{name} }}}}" if name in names else None
            assert environments[command].get(name.upper()) == expected, (command, name)


@pytest.mark.parametrize(
    ("variables", "flags"),
    [
        ({}, []),
        ({"ALLOW_INCOMPARABLE": "false", "CANDIDATE": ""}, []),
        ({"ALLOW_INCOMPARABLE": "true"}, ["--allow-incomparable"]),
        ({"CANDIDATE": "true"}, ["--candidate"]),
    ],
)
def test_the_gate_s_variables_become_arguments(variables, flags) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | variables
    done = subprocess.run(
        ["make", "-n", "gate"], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    command = done.stdout.replace("\\\n", " ").split("-m release gate")[1]
    assert command.split() == flags


def test_github_disables_no_workflow_that_starts_by_a_push() -> None:
    """After 60 days without a commit, it disables a public repository's workflows that have a schedule."""
    scheduled = {name: {*flow["on"]} for name, flow in WORKFLOWS.items() if "schedule" in flow["on"]}
    assert {*scheduled} == {"monitor", "weekly"}
    assert all(triggers == {"schedule", "workflow_dispatch"} for triggers in scheduled.values())


def test_no_release_that_waits_is_cancelled() -> None:
    wanted = {"group": "release", "cancel-in-progress": "false", "queue": "max"}
    assert WORKFLOWS["release"]["concurrency"] == wanted


def test_what_a_job_with_rights_downloads_replaces_none_of_its_code() -> None:
    downloads = {
        name: [
            step["with"].get("path", ".")
            for step in job["steps"]
            if "download-artifact" in step.get("uses", "")
        ]
        for name, job in JOBS.items()
        if "write" in job["permissions"].values() and "steps" in job
    }
    assert downloads["release/publish"] == ["trained", "film"]
    assert downloads["retrain/issue"] == ["trained"]
    for name, folders in downloads.items():
        assert not [folder for folder in folders if (ROOT / folder).exists()], name


def test_a_release_brings_back_no_older_image_and_no_older_model() -> None:
    """Its commit is that of hours ago; and people publish fixes of older versions, too."""
    _, step = (step for name, step in RUNS if name == "cd/deploy")
    assert (
        step["env"]["IMAGE"]
        == "${{ inputs.image || github.event_name == 'release' && 'main' || github.sha }}"
    )
    assert step["env"]["RELEASE"] == "${{ inputs.release }}"  # by default the latest
    given = JOBS["release/deploy"]["with"]["image"]
    assert given == "${{ github.ref == 'refs/heads/main' && 'main' || '' }}"


def test_the_tag_is_checked_before_the_training() -> None:
    steps = [step["run"] for name, step in RUNS if name == "release/train"]
    assert steps == ["make check-tag", "make pull", "make train", "make gate"]


def test_a_training_that_failed_before_it_wrote_anything_is_not_reported_as_a_missing_file() -> None:
    (download,) = (
        step for step in JOBS["retrain/issue"]["steps"] if "download-artifact" in step.get("uses", "")
    )
    assert download["continue-on-error"] == "true"  # `python -m release issue` says what has happened


def test_training_by_itself_is_off_by_default() -> None:
    """Every way but a person's needs RETRAIN; what is not due ends after the first job."""
    assert JOBS["retrain/due"]["if"] == "vars.RETRAIN != '' || github.event_name == 'workflow_dispatch'"
    for name in ("monitor", "weekly"):
        assert "vars.RETRAIN != ''" in JOBS[f"{name}/retrain"]["if"]
    for job in ("release", "issue"):
        assert "needs.due.outputs.due == 'true'" in JOBS[f"retrain/{job}"]["if"]
        assert "due" in JOBS[f"retrain/{job}"]["needs"]
    on = WORKFLOWS["retrain"]["on"]
    assert {*on} == {"push", "repository_dispatch", "workflow_dispatch"}
    assert on["push"] == {"branches": ["main"], "paths": [due.PHOTOS]}


def installed(target: str, folder: Path) -> set[str]:
    """Names of the packages that make installs for a target in a fresh checkout."""
    for file in (ROOT / "Makefile", *ROOT.glob("requirements*.txt")):
        shutil.copy(file, folder)
    done = subprocess.run(["make", "-n", target], cwd=folder, capture_output=True, text=True, check=True)
    files = re.findall(r"requirements[\w-]*\.txt", done.stdout)
    assert files
    texts = [(folder / file).read_text() for file in files]
    return {name for text in texts for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}


@pytest.mark.parametrize(
    "name", [name for name, job in JOBS.items() if "write" in job["permissions"].values()]
)
def test_no_job_that_may_write_installs_what_trains_or_tests(name: str, tmp_path: Path) -> None:
    trains = installed("train", tmp_path) - installed("serve", tmp_path)
    assert {"torch", "dvc", "mlflow", "pytest"} <= trains
    commands = [step["run"] for job, step in RUNS if job == name]
    for command in commands:
        if command.startswith("make "):
            assert not installed(command.split()[1], tmp_path) & {"torch", "dvc", "mlflow", "scipy", "pytest"}
    if name == "release/publish":
        assert commands == ["scripts/take_trained.sh", "make publish"]
        packages = installed("publish", tmp_path)
        assert "pygithub" in packages
        assert not packages & {"flask", "onnxruntime", "waitress", "protobuf"}  # nothing that serves, either


def test_the_image_that_is_tested_is_the_one_that_is_pushed() -> None:
    """Jobs that may push build nothing; each platform is tested on a machine of its own kind."""
    pushes = JOBS["ci/publish"]["steps"]
    assert not [step for step in pushes if "build-push-action" in step.get("uses", "")]
    assert [step["run"] for step in pushes if "run" in step] == ['scripts/push_images.sh >>"$GITHUB_OUTPUT"']
    job = JOBS["ci/image"]
    assert job["strategy"]["matrix"]["include"] == [
        {"platform": "amd64", "system": "ubuntu-24.04"},
        {"platform": "arm64", "system": "ubuntu-24.04-arm"},
    ]
    uses = [step.get("run") or step["uses"].partition("@")[0] for step in job["steps"]]
    build = uses.index("docker/build-push-action")
    assert job["steps"][build]["with"]["build-args"] == "BASE=${{ steps.base.outputs.base }}"
    assert 'scripts/base_image.sh >>"$GITHUB_OUTPUT"' in uses[:build]
    assert job["steps"][build]["with"]["outputs"] == "type=oci,dest=${{ env.ARCHIVE }}"
    tested = ["scripts/load_image.sh", "make deploy TARGET=docker", "aquasecurity/trivy-action"]
    assert uses[build + 1 :] == [*tested, "actions/upload-artifact"]
    assert job["steps"][-1]["with"]["path"] == "${{ env.ARCHIVE }}"


def test_the_base_image_is_pinned_where_dependabot_updates_it() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    (folder,) = (update["directory"] for update in updates if update["package-ecosystem"] == "docker")
    (pinned,) = re.findall(
        r"^FROM (.+)$", (ROOT / folder.strip("/") / "Dockerfile").read_text(), re.MULTILINE
    )
    (default,) = re.findall(r"^ARG BASE=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert re.fullmatch(re.escape(default) + "@sha256:[0-9a-f]{64}", pinned)
    stages = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {*stages} == {"${BASE}", "environment"}  # no image that is not pinned
