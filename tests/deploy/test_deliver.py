"""`python -m deploy deliver`: which targets, which image and which model it deploys."""

import argparse
import os
import signal
import subprocess
import sys
import threading

import pytest

from deploy import deliver
from ml.model.errors import PipelineError
from tests.helpers.http_server import Handler, Server
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S, until

SHA = "0123456789abcdef0123456789abcdef01234567"
IMAGE = f"ghcr.io/ann-lee/pets:{SHA}"
RENDER = {"RENDER_API_KEY": "key", "RENDER_SERVICE_ID": "srv-1"}
GOOGLE = {"CLOUD_RUN_SERVICE": "pets"}


def model(tag: str = "v9") -> list[str]:
    return ["--model-url", f"https://example.org/{tag}/model.pt", "--model-sha256", "ab" * 32]


class Runs:
    """Replaces the command line of each target, and `python -m release model-url`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.commands: list[list[str]] = []
        self.codes: dict[str, int | str] = {}
        self.releases = True
        monkeypatch.setattr(deliver, "run", self._deploy)
        monkeypatch.setattr(deliver.subprocess, "run", self._model_url)

    def _deploy(self, _package: str, _description: str, _commands: object, argv: list[str]) -> int:
        self.commands.append(argv)
        code = self.codes.get(argv[0], 0)
        if isinstance(code, str):
            raise SystemExit(code)
        return code

    def _model_url(self, command: list[str], **_: object) -> "subprocess.CompletedProcess[str]":
        assert command[1:4] == ["-m", "release", "model-url"]
        (tag,) = command[4:] or ["v9"]
        text = f"MODEL_URL=https://example.org/{tag}/model.pt\nMODEL_SHA256={'ab' * 32}\n"
        return subprocess.CompletedProcess(command, int(tag == "missing"), text if self.releases else "")

    def __call__(self, env: dict[str, str], *options: str) -> int:
        """Deliver in this environment; return the exit code."""
        own = ("ACTION", "TARGET", "RELEASE", "VERIFY", "CANARY", "CANARY_MINUTES")
        for name in (*RENDER, *GOOGLE, "GCP_ACCESS_TOKEN", "MODEL_TOKEN", *own):
            self.monkeypatch.delenv(name, raising=False)
        for name, value in ({"GITHUB_REPOSITORY": "Ann-Lee/Pets", "IMAGE": SHA} | env).items():
            self.monkeypatch.setenv(name, value)
        parser = argparse.ArgumentParser()
        deliver.configure(parser)
        return deliver.main(parser.parse_args(options))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(monkeypatch)


@pytest.mark.parametrize(
    ("env", "options", "commands"),
    [
        ({}, (), [["docker", "--image", IMAGE, *model()]]),
        (
            {"CANARY": "5,25", "CANARY_MINUTES": "10"},
            (),
            [["docker", "--image", IMAGE, *model(), "--canary", "5,25", "--minutes", "10"]],
        ),
        ({"CANARY": "5", "ACTION": "rollback"}, (), [["docker", "--rollback"]]),
        (RENDER | {"ACTION": "rollback", "ROLLBACK_TO": "dep-1"}, (), [["render", "--rollback=dep-1"]]),
        (RENDER, (), [["render", "--image", IMAGE, *model()]]),
        ({"RENDER_API_KEY": "key"}, (), [["render", "--image", IMAGE, *model()]]),  # says what is missing
        (
            RENDER | GOOGLE | {"IMAGE": "ghcr.io/a/b@sha256:1"},
            (),
            [
                ["render", "--image", "ghcr.io/a/b@sha256:1", *model()],
                ["cloud-run", "--image", "ghcr.io/a/b@sha256:1", *model()],
            ],
        ),
        (RENDER | {"TARGET": "docker"}, (), [["docker", "--image", IMAGE, *model()]]),
        (
            {"MODEL_TOKEN": "ghs_1"},
            (),
            [["docker", "--image", IMAGE, *model(), "--env", "MODEL_TOKEN"]],  # without its value
        ),
        ({"MODEL_TOKEN": "ghs_1", "ACTION": "rollback"}, (), [["docker", "--rollback"]]),
        # A workflow's token ends with the workflow, but these services live on.
        (RENDER | {"MODEL_TOKEN": "ghs_1"}, (), [["render", "--image", IMAGE, *model()]]),
        (RENDER, ("--target", "kubernetes"), [["kubernetes", "--image", IMAGE, *model()]]),
        ({"RELEASE": "v2"}, (), [["docker", "--image", IMAGE, *model("v2")]]),
        (
            {"RELEASE": "v2"},
            ("--release", "v3", "--image", "a/b"),
            [["docker", "--image", "a/b", *model("v3")]],
        ),
        (
            RENDER | GOOGLE | {"ACTION": "rollback"},
            (),
            [["render", "--rollback"], ["cloud-run", "--rollback"]],
        ),
    ],
)
def test_delivery(runs, env, options, commands) -> None:
    assert runs(env, *options) == 0
    assert runs.commands == commands


@pytest.mark.parametrize("options", [(), ("--verify", "off")])
def test_verification_is_handed_on_to_each_target(runs, options, capsys) -> None:
    assert runs(RENDER | GOOGLE | {"VERIFY": "on"}, *options) == 0
    verify = [] if options else ["--verify", "Ann-Lee/Pets"]
    assert runs.commands == [[name, "--image", IMAGE, *model(), *verify] for name in ("render", "cloud-run")]
    assert ("VERIFY is off" in capsys.readouterr().out) == bool(options)


def test_before_the_first_release_no_model_is_set(runs) -> None:
    runs.releases = False
    assert runs({}) == 0
    assert runs.commands == [["docker", "--image", IMAGE]]


@pytest.mark.parametrize(
    ("codes", "worst"),
    [((1, 0), 1), ((0, 2), 2), ((2, 1), 2), ((3, 0), 3), ((3, 1), 1), ((3, 2), 2), (("error: x", 0), 1)],
)
def test_a_target_that_fails_does_not_keep_others_from_their_deploy(runs, codes, worst) -> None:
    runs.codes = dict(zip(("render", "cloud-run"), codes, strict=True))
    assert runs(RENDER | GOOGLE) == worst
    assert len(runs.commands) == 2


def test_a_wrong_option_is_not_a_failed_rollback(runs, capsys) -> None:
    from ml.cli import run

    runs.monkeypatch.setattr(deliver, "run", run)
    runs.monkeypatch.delenv("GCP_ACCESS_TOKEN", raising=False)
    assert runs({"CANARY": "10", "CANARY_MINUTES": "15m", "TARGET": "docker"}) == 1
    assert "invalid float value: '15m'" in capsys.readouterr().err


def test_ctrl_c_before_anything_was_changed_ends_the_delivery() -> None:
    asked: list[str] = []
    goes = threading.Event()

    class Hangs(Handler):
        def do_GET(self) -> None:
            asked.append(self.path)
            goes.wait(HANG_S)

    with Server(Hangs) as server:
        addresses = {"RENDER_API_URL": server.url, "CLOUD_RUN_API_URL": server.url}
        google = {"GCP_REGION": "eu", "GCP_PROJECT": "p", "GCP_ACCESS_TOKEN": "t"}
        env = os.environ | RENDER | GOOGLE | google | addresses | {"ACTION": "rollback"}
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy", "deliver"], cwd=ROOT, env=env, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        until(lambda: asked)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=HANG_S)[0]
        goes.set()
    assert process.returncode == 1
    assert "interrupted; nothing was changed" in output
    assert "== cloud-run" not in output
    assert len(asked) == 1


def test_a_cancelled_delivery_goes_on_to_no_other_target(runs) -> None:
    runs.monkeypatch.setattr(deliver.CANCELLATION, "came", True)
    assert runs(RENDER | GOOGLE) == 0
    assert [command[0] for command in runs.commands] == ["render"]


@pytest.mark.parametrize(
    "env",
    [
        {"TARGET": "heroku"},
        {"ACTION": "destroy"},
        {"ROLLBACK_TO": "dep-1"},
        RENDER | GOOGLE | {"ACTION": "rollback", "ROLLBACK_TO": "dep-1"},
        {"IMAGE": ""},
        {"GITHUB_REPOSITORY": ""},
        {"VERIFY": "yes"},
        {"RELEASE": "missing"},
    ],
)
def test_wrong_settings_deploy_nothing(runs, env) -> None:
    with pytest.raises(PipelineError):
        runs(env)
    assert not runs.commands
