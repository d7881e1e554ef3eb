"""The scripts that the workflows call, apart from what they call themselves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.service import ROOT
from tests.waiting import HANG_S

SHA = "0123456789abcdef0123456789abcdef01234567"
PATH = {"PATH": os.environ["PATH"]}
# Stands for the interpreter: tells what was run, as often as it was.
PYTHON = f"""#!{sys.executable}
import os, sys
match sys.argv[1:]:
    case ["-m", "ml.releases", *tag]:
        if os.environ.get("NO_RELEASE"):
            sys.exit(0)
        print(f"MODEL_URL=https://example.org/{{tag[0] if tag else 'v9'}}/model.pt")
        print("MODEL_SHA256=" + "ab" * 32)
    case ["scripts/deploy.py", target, *rest]:
        print("deploy.py", target, *rest)
        sys.exit(int(os.environ.get("CODE_" + target.upper().replace("-", "_"), 0)))
    case ["-m", "ml.publish", *rest]:
        print("ml.publish", *rest)
        sys.exit(int(os.environ.get("CODE", 0)))
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
    env = {
        "GITHUB_REPOSITORY": "Ann-Lee/Pets", "GITHUB_SHA": SHA, "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REF_TYPE": kind, "GITHUB_REF_NAME": ref,
    }  # fmt: skip
    code, lines = run("image_names.sh", env)
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
        ("tag", "v1.2.3", ["v1.2.3", "latest"]),
        ("tag", "v1.2.3-rc.1", ["v1.2.3-rc.1"]),
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


MODEL = ["--model-url", "https://example.org/v9/model.pt", "--model-sha256", "ab" * 32]
IMAGE = "ghcr.io/ann-lee/pets:" + SHA
RENDER = {"RENDER_API_KEY": "key", "RENDER_SERVICE_ID": "srv-1"}
GOOGLE = {"CLOUD_RUN_SERVICE": "pets", "GCP_IMAGES": "r-docker.pkg.dev/p/ghcr"}


@pytest.mark.parametrize(
    ("env", "commands"),
    [
        ({}, [["docker", "--image", IMAGE, *MODEL]]),
        (RENDER, [["render", "--image", IMAGE, *MODEL]]),
        ({"RENDER_API_KEY": "key"}, [["render", "--image", IMAGE, *MODEL]]),  # deploy.py says what is missing
        (GOOGLE, [["cloud-run", "--image", "r-docker.pkg.dev/p/ghcr/ann-lee/pets:" + SHA, *MODEL]]),
        ({"CLOUD_RUN_SERVICE": "pets"}, [["cloud-run", "--image", IMAGE, *MODEL]]),
        (
            RENDER | GOOGLE | {"IMAGE": "ghcr.io/a/b@sha256:1"},
            [
                ["render", "--image", "ghcr.io/a/b@sha256:1", *MODEL],
                ["cloud-run", "--image", "r-docker.pkg.dev/p/ghcr/a/b@sha256:1", *MODEL],
            ],
        ),
        (RENDER | {"TARGET": "docker"}, [["docker", "--image", IMAGE, *MODEL]]),
        ({"NO_RELEASE": "1"}, [["docker", "--image", IMAGE]]),
        (
            {"RELEASE": "v2"},
            [["docker", "--image", IMAGE, MODEL[0], MODEL[1].replace("v9", "v2"), *MODEL[2:]]],
        ),
        (RENDER | GOOGLE | {"ACTION": "rollback"}, [["render", "--rollback"], ["cloud-run", "--rollback"]]),
    ],
)
def test_delivery(python, env, commands) -> None:
    code, lines = run(
        "deliver.sh", {"PYTHON": python, "GITHUB_REPOSITORY": "Ann-Lee/Pets", "IMAGE": SHA} | env
    )
    assert code == 0
    assert [line.split()[1:] for line in lines if line.startswith("deploy.py")] == commands


@pytest.mark.parametrize(("codes", "worst"), [((1, 0), 1), ((0, 2), 2), ((2, 1), 2)])
def test_a_target_that_fails_keeps_no_other_from_its_deploy(python, codes, worst) -> None:
    env = {"CODE_RENDER": str(codes[0]), "CODE_CLOUD_RUN": str(codes[1]), "PYTHON": python, "IMAGE": "a/b:c"}
    code, lines = run("deliver.sh", RENDER | GOOGLE | env)
    assert code == worst
    assert sum(line.startswith("deploy.py") for line in lines) == 2


@pytest.mark.parametrize("env", [{"TARGET": "heroku"}, {"ACTION": "destroy"}, {"IMAGE": ""}])
def test_delivery_of_nonsense(python, env) -> None:
    code, lines = run("deliver.sh", {"PYTHON": python, "GITHUB_REPOSITORY": "a/b", "IMAGE": SHA} | env)
    assert code == 1
    assert not any(line.startswith("deploy.py") for line in lines)


def test_publishing_hands_attestation_and_recording_on(python, tmp_path) -> None:
    project, output = tmp_path / "project", tmp_path / "output"
    (project / "models").mkdir(parents=True)
    (project / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "publish.sh", project / "scripts")
    bundle = tmp_path / "attestation.json"
    bundle.write_text("{}")
    env = {"PYTHON": python, "TAG": "v1.2.3", "GITHUB_SHA": SHA, "GITHUB_OUTPUT": str(output)}
    code, lines = run("publish.sh", env | {"BUNDLE": str(bundle)}, project)
    asset = "models/model.pt.sigstore.json"
    assert (code, lines) == (0, [f"ml.publish --tag v1.2.3 --target {SHA} --asset {asset}"])
    assert (project / asset).read_text() == "{}"
    assert output.read_text() == "tag=v1.2.3\n"
    output.unlink()
    (project / "docs").mkdir()
    (project / "docs" / "recording.mp4").write_bytes(b"film")
    code, lines = run("publish.sh", env, project)
    assert (code, lines) == (0, [f"ml.publish --tag v1.2.3 --target {SHA} --asset docs/recording.mp4"])
    output.unlink()
    (project / "docs" / "recording.mp4").unlink()
    code, lines = run("publish.sh", env | {"CODE": "1"}, project)
    assert (code, lines) == (1, [f"ml.publish --tag v1.2.3 --target {SHA}"])
    assert not output.exists()  # nothing to deploy


def test_tools_that_are_there_are_not_installed_again(tmp_path) -> None:
    others = ["chromium", "catatonit", "kubectl", "apt-get", "sudo"]
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
    assert (code, lines) == (1, ["== install wrk", "error: wrk can't be installed"])
