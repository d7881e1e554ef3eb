"""The scripts that the workflows call, apart from what they call themselves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S

SHA = "0123456789abcdef0123456789abcdef01234567"
PATH = {"PATH": os.environ["PATH"]}
GITHUB = {
    "GITHUB_REPOSITORY": "Ann-Lee/Pets", "GITHUB_SHA": SHA, "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1.2.3",
}  # fmt: skip
# Stands for the interpreter: prints what is run. LATEST: the tag of the latest release.
PYTHON = f"""#!{sys.executable}
import os, sys
match sys.argv[1:]:
    case ["-m", "release", "publish", *rest]:
        print("publish", *rest)
        sys.exit(int(os.environ.get("CODE", 0)))
    case ["-m", "release", "model-url", *tag]:
        print("MODEL_URL=https://example.org/", *(tag or [os.environ["LATEST"] or sys.exit(1)]))
"""

SKOPEO = """#!/bin/sh
echo "skopeo $*" >>"$CALLS"
while [ $# -gt 0 ]; do
  [ "$1" != --digestfile ] || printf 'sha256:of-%s' "$(basename "$3" .tar)" >"$2"
  shift
done
"""
DOCKER = """#!/bin/sh
echo "docker $*" >>"$CALLS"
[ "$3" != inspect ] || echo sha256:of-another-run  # which has pushed the same tags since
while [ $# -gt 0 ]; do
  [ "$1" != --metadata-file ] || printf '{"containerimage.descriptor":{"digest":"%s"}}' "$DIGEST" >"$2"
  shift
done
"""


@pytest.fixture
def python(tmp_path) -> str:
    path = tmp_path / "python"
    path.write_text(PYTHON)
    path.chmod(0o755)
    return str(path)


def run(script: str, env: dict[str, str], folder: Path = ROOT) -> tuple[int, list[str]]:
    command = [folder / "scripts" / script]
    done = subprocess.run(command, env=PATH | env, cwd="/", capture_output=True, text=True, timeout=HANG_S)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def names(kind: str, ref: str) -> dict[str, list[str]]:
    code, lines = run("image_names.sh", GITHUB | {"GITHUB_REF_TYPE": kind, "GITHUB_REF_NAME": ref})
    assert code == 0, lines
    found: dict[str, list[str]] = {}
    while lines:
        line = lines.pop(0)
        if "<<" in line:
            end = lines.index("END")
            found[line.removesuffix("<<END")] = lines[:end]
            del lines[: end + 1]
        else:
            name, _, value = line.partition("=")
            found[name] = [value]
    return found


@pytest.mark.parametrize(
    ("kind", "ref", "tags"),
    [
        ("branch", "main", ["main"]),
        ("branch", "fix/the thing", ["branch-fix-the-thing"]),
        ("branch", "latest", ["branch-latest"]),
        ("branch", "f" * 40, ["branch-" + "f" * 40]),
        ("branch", "x" * 200, ["branch-" + "x" * 121]),
        ("tag", "v1.2.3", ["v1.2.3"]),
        ("tag", "v1.2.3-rc.1", ["v1.2.3-rc.1"]),
        ("tag", "v1.2.3rc1", ["v1.2.3rc1"]),
    ],
)
def test_names_of_the_image(kind, ref, tags) -> None:
    found = names(kind, ref)
    assert found["name"] == ["ghcr.io/ann-lee/pets"]
    assert found["tags"] == [f"ghcr.io/ann-lee/pets:{tag}" for tag in (SHA, *tags)]
    labels = dict(label.removeprefix("org.opencontainers.image.").split("=") for label in found["labels"])
    assert labels["revision"] == SHA
    assert labels["source"] == "https://github.com/Ann-Lee/Pets"
    assert {*labels} == {"version", "revision", "created", "source"}


@pytest.mark.parametrize(
    "lines", ["FROM python:3.11-slim\n", "", f"FROM a:1@sha256:{'0' * 64}\nFROM b:1@sha256:{'0' * 64}\n"]
)
def test_a_base_image_without_digest_is_rejected(tmp_path: Path, lines: str) -> None:
    for name in ("scripts", ".github/base"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "base_image.sh", tmp_path / "scripts")
    dockerfile = tmp_path / ".github" / "base" / "Dockerfile"
    dockerfile.write_text(f"# a comment\nFROM python:3.11-slim@sha256:{SHA[:32] * 2}\n")
    assert run("base_image.sh", {}, tmp_path) == (0, [f"base=python:3.11-slim@sha256:{SHA[:32] * 2}"])
    dockerfile.write_text(lines)
    code, output = run("base_image.sh", {}, tmp_path)
    assert code == 1
    assert output == ["error: .github/base/Dockerfile must have one line FROM NAME:TAG@sha256:DIGEST"]


def test_the_archives_are_pushed_unchanged_and_joined(tmp_path: Path) -> None:
    project, calls = tmp_path / "a project", tmp_path / "calls"
    (project / "scripts").mkdir(parents=True)
    (project / "images").mkdir()
    for script in ("push_images.sh", "image_names.sh"):
        shutil.copy(ROOT / "scripts" / script, project / "scripts")
    for platform in ("amd64", "arm64"):
        (project / "images" / f"image-{platform}.tar").touch()
    for tool, text in (("skopeo", SKOPEO), ("docker", DOCKER)):
        (tmp_path / tool).write_text(text)
        (tmp_path / tool).chmod(0o755)
    env = GITHUB | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "CALLS": str(calls),
        "DIGEST": "sha256:of-both",
    }
    name = "ghcr.io/ann-lee/pets"
    assert run("push_images.sh", env, project) == (0, [f"name={name}", "digest=sha256:of-both"])
    *copies, create = calls.read_text().splitlines()
    for platform, copy in zip(("amd64", "arm64"), copies, strict=True):
        assert copy.startswith("skopeo copy --quiet --all --preserve-digests --digestfile ")
        assert copy.endswith(f"oci-archive:images/image-{platform}.tar docker://{name}:{SHA}-{platform}")
    tags = " ".join(f"--tag {name}:{tag}" for tag in (SHA, "v1.2.3"))
    platforms = " ".join(f"{name}@sha256:of-image-{platform}" for platform in ("amd64", "arm64"))
    assert create.startswith("docker buildx imagetools create --metadata-file ")
    assert create.endswith(f" {tags} {platforms}")


def test_of_an_artifact_only_results_are_taken(tmp_path: Path) -> None:
    """An artifact is made where the packages that train run; they must not choose what runs with rights."""
    for name, text in {
        "scripts/publish.sh": "own", "Makefile": "own", "models/old.pt": "old",
        "trained/scripts/publish.sh": "foreign", "trained/Makefile": "foreign",
        "trained/models/model.pt": "new", "trained/reports/gate.json": "{}",
        "film/recording.mp4": "film", "film/page.png": "foreign", "docs/page.png": "own",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copy(ROOT / "scripts" / "take_trained.sh", tmp_path / "scripts")
    assert run("take_trained.sh", {}, tmp_path) == (0, [])
    assert [
        (tmp_path / name).read_text() for name in ("scripts/publish.sh", "Makefile", "docs/page.png")
    ] == ["own"] * 3
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["model.pt"]
    assert (tmp_path / "reports/gate.json").read_text() == "{}"
    assert (tmp_path / "docs/recording.mp4").read_text() == "film"
    assert run("take_trained.sh", {}, tmp_path) == (0, [])  # nothing was downloaded
    (tmp_path / "trained/reports").mkdir()
    (tmp_path / "trained/reports/plot.png").symlink_to("/etc/passwd")
    assert run("take_trained.sh", {}, tmp_path) == (1, ["error: trained/reports has links to other files"])
    assert not (tmp_path / "reports/plot.png").exists()


def test_publishing_hands_attestation_and_recording_on(python, tmp_path) -> None:
    project, output = tmp_path / "project", tmp_path / "output"
    (project / "models").mkdir(parents=True)
    (project / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "publish.sh", project / "scripts")
    bundle = tmp_path / "attestation.json"
    bundle.write_text("{}")
    env = {
        "PYTHON": python,
        "TAG": "v1.2.3",
        "GITHUB_SHA": SHA,
        "GITHUB_OUTPUT": str(output),
        "LATEST": "v1.2.3",
    }
    code, lines = run("publish.sh", env | {"BUNDLE": str(bundle)}, project)
    asset = "models/model.pt.sigstore.json"
    assert (code, lines) == (0, [f"publish --tag v1.2.3 --target {SHA} --asset {asset}"])
    assert (project / asset).read_text() == "{}"
    assert output.read_text() == "tag=v1.2.3\nlatest=true\n"
    output.unlink()
    (project / "docs").mkdir()
    (project / "docs" / "recording.mp4").write_bytes(b"film")
    code, lines = run("publish.sh", env | {"LATEST": "v2.0.0"}, project)
    assert (code, lines) == (0, [f"publish --tag v1.2.3 --target {SHA} --asset docs/recording.mp4"])
    assert output.read_text() == "tag=v1.2.3\nlatest=false\n"
    output.unlink()
    (project / "docs" / "recording.mp4").unlink()
    code, lines = run("publish.sh", env | {"CANDIDATE": "true"}, project)
    assert (code, lines) == (0, [f"publish --tag v1.2.3 --target {SHA} --candidate"])
    output.unlink()
    code, lines = run("publish.sh", env | {"CODE": "1", "CANDIDATE": "false"}, project)
    assert (code, lines) == (1, [f"publish --tag v1.2.3 --target {SHA}"])
    assert not output.exists()  # nothing to deploy
    code, _ = run(
        "publish.sh", env | {"LATEST": ""}, project
    )  # which release is the latest cannot be found out
    assert code == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("env", "arguments"),
    [
        ({"EVENT": "schedule"}, ""),
        ({"EVENT": "push", "ALWAYS": ""}, " --new-photos 200"),
        ({"EVENT": "push", "RETRAIN_PHOTOS": "50"}, " --new-photos 50"),
        ({"EVENT": "workflow_dispatch", "ALWAYS": "true"}, " --always"),
        ({"EVENT": "workflow_dispatch", "ALWAYS": "false"}, ""),
    ],
)
def test_what_makes_a_training_due(tmp_path: Path, env: dict[str, str], arguments: str) -> None:
    python, output = tmp_path / "python", tmp_path / "output"
    python.write_text('#!/bin/sh\necho "ran=$*"\n')
    python.chmod(0o755)
    done = run("due.sh", env | {"PYTHON": str(python), "GITHUB_OUTPUT": str(output)})
    assert done == (0, [f"ran=-m release due{arguments}"])
    assert output.read_text() == f"ran=-m release due{arguments}\n"


@pytest.mark.parametrize(("code", "output"), [(0, ""), (1, ""), (3, "worse=true\n")])
def test_only_a_low_live_accuracy_starts_a_training(tmp_path: Path, code: int, output: str) -> None:
    python, file = tmp_path / "python", tmp_path / "output"
    python.write_text(f"#!/bin/sh\nexit {code}\n")
    python.chmod(0o755)
    file.touch()
    env = {"SERVICE_URL": "http://127.0.0.1:1", "PYTHON": str(python), "GITHUB_OUTPUT": str(file)}
    assert run("collect.sh", env) == (code, [])
    assert file.read_text() == output


def test_a_training_is_started_on_the_branch_that_was_checked(tmp_path: Path) -> None:
    (tmp_path / "gh").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "gh").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_REPOSITORY": "a/b", "GITHUB_REF_NAME": "main"}
    expected = "workflow run retrain.yml --repo a/b --ref main --field always=false"
    assert run("start_retraining.sh", env) == (0, [expected])


def test_a_release_is_withdrawn(tmp_path: Path) -> None:
    (tmp_path / "gh").write_text('#!/bin/sh\necho "$@"\nexit ${FAILS:-0}\n')
    (tmp_path / "gh").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_REPOSITORY": "a/b", "TAG": "v1.2.3"}
    code, lines = run("withdraw.sh", env)
    assert (code, lines[0]) == (0, "release edit v1.2.3 --repo a/b --prerelease")
    assert "v1.2.3 is a prerelease now" in lines[1]
    assert run("withdraw.sh", env | {"FAILS": "1"}) == (1, lines[:1])


def test_tools_that_are_there_are_not_installed_again(tmp_path) -> None:
    others = [
        "chromium",
        "chromium-headless-shell",
        "haproxy",
        "nginx",
        "catatonit",
        "ffmpeg",
        "kubectl",
        "apt-get",
        "sudo",
    ]
    others += ["prometheus", "prometheus-alertmanager", "prometheus-pushgateway"]
    for tool in (*others, "wrk"):
        path = tmp_path / tool
        path.write_text("#!/bin/sh\nexit 1\n")
        path.chmod(0o755)
    base = "/usr/local/bin:/usr/bin:/bin"
    assert run("install_test_tools.sh", {"PATH": f"{tmp_path}:{base}"}) == (0, [])
    (tmp_path / "tools").mkdir()
    for name in ("bash", "id", "mktemp", "cat", "env"):
        (tmp_path / "tools" / name).symlink_to(shutil.which(name, path=base))
    (tmp_path / "wrk").unlink()
    for tool in others:
        shutil.move(tmp_path / tool, tmp_path / "tools" / tool)
    code, lines = run("install_test_tools.sh", {"PATH": str(tmp_path / "tools")})
    assert (code, lines) == (1, ["== install wrk", "error: wrk could not be installed"])
