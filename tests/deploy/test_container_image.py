"""The image: builds it and runs real containers."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.settings import EMBEDDED
from ml.model.bundle import read
from scripts.common.pictures import encoded
from scripts.common.process import free_port
from tests.helpers.container import ENGINE, TAG, Container, build, container, engine, needs_container
from tests.helpers.model_server import ModelServer
from tests.helpers.paths import ROOT
from tests.helpers.service import Client
from tests.helpers.waiting import HANG_S, until

CAT = (ROOT / "tests" / "photos" / "cat.jpg").read_bytes()
HARDENED = ["--read-only", "--tmpfs", "/cache", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
if ENGINE == "podman":
    HARDENED.append("--read-only-tmpfs=false")  # else /tmp and /run could be written to


def kilobytes(image: str) -> int:
    """Of all files in it."""
    told = engine("run", "--rm", "--user=0", "--entrypoint=du", image, "-skx", "/", check=False)
    return int(told.split()[0])  # what du can't read, as in /proc, it says on standard error


def base() -> str:
    name = re.search(r"^ARG BASE=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert name
    return name[1]


@needs_container
def test_size(image: str) -> None:
    megabytes = (kilobytes(image) - kilobytes(base())) * 1024 / 1e6
    print(f"above the base image: {megabytes:.0f} MB")
    assert 50 < megabytes < 180  # the bar is 260; torch alone would be 200 more


@needs_container
def test_starts_and_answers_right(image: str) -> None:
    with container(image) as service:
        print(f"run to ready: {service.wait():.2f} s")
        status, answer = service.predict(CAT)
        assert (status, answer["label"]) == (200, "cat")
        assert answer["probabilities"]["cat"] > 0.99


def large_photo() -> bytes:
    """Of more than a megabyte, from which on an upload waits in a file."""
    pixels = np.random.default_rng(0).integers(0, 255, (1100, 1100, 3), np.uint8)
    return encoded(Image.fromarray(pixels), quality=95)


@needs_container
def test_with_nothing_to_write_to_but_the_cache_and_no_rights(image: str) -> None:
    photo = large_photo()
    assert 1 << 20 < len(photo) < 10 << 20
    with ModelServer().serving() as server:
        server.files["/model.pt"] = EMBEDDED.read_bytes()
        with container(image, *HARDENED, host=True, MODEL_URL=f"{server.url}/model.pt") as service:
            service.wait()
            assert len(server.requests()) == 1
            assert service.get("/model")[1]["sha256"] == read(EMBEDDED).sha256
            assert service.predict(photo)[0] == 200
            assert service.predict(CAT)[1]["label"] == "cat"
            assert service.run("id", "-u").strip() == "10001"
            status = dict(re.findall(r"^(\w+):\s+(\S+)", service.run("cat", "/proc/1/status"), re.MULTILINE))
            assert status["Name"] == "python"
            assert status["NoNewPrivs"] == "1"
            assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
            with pytest.raises(AssertionError, match="Read-only file system"):
                service.run("sh", "-c", "echo >/tmp/x")
            check_health(service)
            assert service.stop() == 0


@needs_container
def test_ends_where_it_can_not_serve(image: str) -> None:
    nowhere = [option for option in HARDENED if option not in ("--tmpfs", "/cache")]
    for options, env, line in (
        ([], {"MODEL_URL": "file:///models/model.pt"}, "error: can't read the model file /models/model.pt"),
        ([], {"THREADS": "many"}, "error: THREADS='many'"),
        (nowhere, {}, "error: no folder is writable"),
    ):
        with container(image, *options, **env) as service:
            until(lambda: service.ended() is not None)
            told = service.ended()
            assert service.inspect("{{.State.ExitCode}}") != "0"
            assert told
            assert told.startswith(line)
            assert told.count("\n") == 1


def check_health(service: Container) -> None:
    """Do what the engine does for HEALTHCHECK; raises AssertionError where the container isn't healthy."""
    kind, *command = json.loads(service.inspect("{{json .Config.Healthcheck.Test}}"))
    assert kind == "CMD"
    service.run(*command)


@needs_container
def test_health_check(image: str) -> None:
    with container(image, PORT="9000") as service:
        service.wait()
        started = time.monotonic()
        check_health(service)
        print(f"health check: {time.monotonic() - started:.2f} s, most of it the engine's")
        engine("kill", "--signal", "STOP", service.name)
        with pytest.raises(AssertionError, match="timed out"):
            check_health(service)
        engine("kill", "--signal", "CONT", service.name)
        check_health(service)
    with (
        container(image, command=["sleep", "3600"]) as service,
        pytest.raises(AssertionError, match="refused"),
    ):
        check_health(service)


@needs_container
def test_what_is_not_inside(image: str) -> None:
    with container(image) as service:
        for tool in ("cc", "gcc", "g++", "make"):
            assert not service.run("sh", "-c", f"command -v {tool} || true")
        packages = service.run("sh", "-c", "ls /venv/lib/python3*/site-packages").split()
        assert "onnxruntime" in packages
        assert not {"pip", "setuptools", "torch", "pytest", "dvc"} & set(packages)
        assert not service.run("sh", "-c", "find / -xdev -path '*/.cache/pip' 2>/dev/null || true")
        files = set(service.run("find", "/srv", "/venv/lib", "-type", "f").splitlines())
        assert not [name for name in files if "/tests/" in name]
        sources = [name for name in files if name.startswith("/srv/") and name.endswith(".py")]
        compiled = [Path(name) for name in files if name.endswith(".pyc")]
        assert {f"{path.parent.parent}/{path.name.partition('.')[0]}.py" for path in compiled} >= set(sources)
        assert "/srv/app/default/model.pt" in files
        assert not service.run("find", "/srv", "/venv", "-writable", "-not", "-type", "l")


def test_of_the_pipeline_only_the_kernel_is_copied() -> None:
    """tests/project/test_rooms.py checks that the service and the kernel import nothing else of `ml`."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^COPY (ml\S*)", dockerfile, re.MULTILINE) == ["ml/__init__.py", "ml/model/"]
    assert re.findall(r"^COPY (app\S*)", dockerfile, re.MULTILINE) == ["app/"]


def layers(image: str) -> list[str]:
    found: list[str] = json.loads(engine("image", "inspect", "--format", "{{json .RootFS.Layers}}", image))
    return found


@needs_container
def test_a_change_of_the_code_builds_nothing_else_again(image: str, tmp_path: Path) -> None:
    for path in (ROOT / "Dockerfile", ROOT / ".dockerignore", *ROOT.glob("requirements*.txt")):
        shutil.copy2(path, tmp_path)
    for name in ("app", "ml"):
        shutil.copytree(ROOT / name, tmp_path / name)
    page = tmp_path / "app" / "routes" / "page.py"
    page.write_text(page.read_text() + f"# {time.time()}\n")
    page.chmod(0o600)  # as a careful umask leaves it
    started = time.monotonic()
    changed = build(tag=f"{TAG}-changed", folder=tmp_path)
    print(f"build after a change of the code: {time.monotonic() - started:.1f} s")
    try:
        assert layers(changed)[:-1] == layers(image)[:-1]
        assert layers(changed)[-1] != layers(image)[-1]
        with container(changed) as service:
            service.wait()
    finally:
        engine("rmi", f"{TAG}-changed", check=False)


@needs_container
@pytest.mark.parametrize("problem", ["RUNTIME=tensorflow: must be onnx or torch", "OTEL=yes: must be 0 or 1"])
def test_a_build_argument_that_there_is_not(image: str, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        build("--build-arg", problem.partition(":")[0], tag=f"{TAG}-wrong")


def make(*arguments: str, cwd: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["make", "-f", ROOT / "Makefile", f"CONTAINER={ENGINE}", *arguments],
        cwd=cwd,
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@needs_container
def test_make_image_labels_it(image: str) -> None:
    tag = f"{TAG}-labelled"
    remote = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "remote.origin.url",
        "GIT_CONFIG_VALUE_0": "https://me:secret@example.org/me/cats.git",
    }
    done = make("image", f"IMAGE={tag}", cwd=ROOT, **remote)
    told = done.communicate()[0]
    assert done.returncode == 0, told
    assert "secret" not in told
    try:
        given = json.loads(engine("image", "inspect", "--format", "{{json .Config.Labels}}", tag))
    finally:
        engine("rmi", tag, check=False)
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in given.items()}
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert labels["title"] == "cats-vs-dogs"
    assert labels["revision"] == head.stdout.strip()
    assert labels["source"] == "https://example.org/me/cats"
    assert labels["version"]
    assert labels["description"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["created"])


class Made(Client):
    """The service that `make run-image` runs."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        super().__init__(port)
        self.started, self.process = time.perf_counter(), process

    def ended(self) -> str | None:
        return None if self.process.poll() is None else self.process.communicate()[0]


@needs_container
def test_make_run_image_passes_settings_on(image: str, tmp_path: Path) -> None:
    port, name = free_port(), f"test-{uuid.uuid4().hex[:12]}"
    (tmp_path / ".env").write_text("API_KEYS=from-file\nHOST=127.0.0.1\nMODEL_SHA256=\n")
    model = "file:///srv/app/default/model.pt"
    started = make(
        "run-image", f"IMAGE={image}", f"PORT={port}", f"RUN_FLAGS=--name {name}", cwd=tmp_path,
        MODEL_URL=model, LOG_LEVEL="warning",
    )  # fmt: skip
    try:
        service = Made(port, started)
        service.wait()
        assert service.predict(CAT)[0] == 401
        env = json.loads(engine("inspect", "--format", "{{json .Config.Env}}", name))
        assert {f"MODEL_URL={model}", "LOG_LEVEL=warning"} <= set(env)
        os.killpg(started.pid, signal.SIGINT)  # as Ctrl-C does
        told = started.communicate(timeout=HANG_S)[0]
        assert "Traceback" not in told
        assert "--env MODEL_URL " in told  # by its name: the process list would show the value
        assert model not in told
    finally:
        engine("rm", "--force", name, check=False)
        started.kill()
        started.communicate(timeout=HANG_S)
