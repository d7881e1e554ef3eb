"""`--verify`: what this repository's workflows have not attested is not deployed, and nothing is changed."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from scripts.standins import github
from tests.helpers.deploying import Deploying, Done
from tests.helpers.model_server import ModelServer
from tests.helpers.paths import ROOT
from tests.helpers.places import IMAGE, OLD_URL, Place
from tests.helpers.service import Service
from tests.helpers.waiting import HANG_S

REPOSITORY = "ann-lee/pets"
DIGEST, OTHER_DIGEST = "1" * 64, "2" * 64
TOKEN = "github-token-0123456789"
EMBEDDED = ROOT / "app" / "default" / "model.pt"


def attestation(sha256: str, workflow: str, **changes: Any) -> dict[str, Any]:
    return {
        "sha256": sha256,
        "repository": REPOSITORY,
        "workflow": workflow,
        "ref": "refs/heads/main",
    } | changes


class RealService(Service):
    """What the stand-in for Render runs instead of a container: the service itself, as a process."""

    def __init__(self, _image: str, env: Mapping[str, str]) -> None:
        self.env = dict(env)
        super().__init__(ROOT, **self.env)

    def state(self) -> str:
        if self.ended() is not None:
            return f"Exited with status {self.process.returncode}"
        with contextlib.suppress(OSError):
            return "ready" if self.get("/ready")[0] == 200 else "starting"
        return "starting"

    def stop(self) -> None:
        self.end()


class Verified:
    """`python -m deploy render --verify` with a stand-in for gh.

    The stand-in for Render says that a model's SHA-256 is its URL's, so the model here contains its URL.
    """

    def __init__(self, deploy: Deploying, server: ModelServer, folder: Path) -> None:
        self._deploy, self._folder = deploy, folder
        self.url = f"{server.url}/v2/model.pt"
        self.sha256 = hashlib.sha256(self.url.encode()).hexdigest()
        server.files["/v2/model.pt"] = self.url.encode()
        program = folder / "bin" / "gh"
        program.parent.mkdir()
        standin = (ROOT / "tests" / "standins" / "gh.py").read_text()
        program.write_text(f"#!{sys.executable}\n{standin}")
        program.chmod(0o755)
        self.path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        self.images = {f"{IMAGE}:new": DIGEST}
        self.mode = "current"
        self.attestations = [attestation(DIGEST, "ci.yml"), attestation(self.sha256, "release.yml")]

    def env(self) -> dict[str, str]:
        state = {"images": self.images, "attestations": self.attestations, "mode": self.mode}
        (self._folder / "gh.json").write_text(json.dumps(state))
        (self._folder / "calls").write_text("")
        files = {"GH_STANDIN": str(self._folder / "gh.json"), "GH_CALLS": str(self._folder / "calls")}
        return {"PATH": self.path, "GITHUB_TOKEN": TOKEN} | files

    def __call__(self, *options: str, image: str = f"{IMAGE}:new", model: bool = True, **env: str) -> Done:
        options = ("--verify", REPOSITORY, "--image", image, *options)
        options += ("--model-url", self.url, "--model-sha256", self.sha256) if model else ()
        return self._deploy(*options, **self.env() | env)

    def calls(self) -> list[tuple[list[str], list[str]]]:
        return [tuple(json.loads(line)) for line in (self._folder / "calls").read_text().splitlines()]


@pytest.fixture
def target() -> str:
    return "render"


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer().serving() as server:
        yield server


@pytest.fixture
def verified(deploy: Deploying, server: ModelServer, tmp_path: Path) -> Verified:
    deploy.secrets += (TOKEN,)
    return Verified(deploy, server, tmp_path)


def is_refused(done: Done, place: Place, reason: str) -> None:
    """Check that nothing was changed, not even looked at."""
    assert done.code == 1, done.output
    assert reason in done.error
    assert done.error.endswith("; nothing was changed\n")
    assert done.error.count("\n") == 1
    assert place.provider.seen == []


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/tags/v1.2.3"])
def test_what_is_attested_is_deployed_by_the_digest_that_was_verified(place, verified, ref) -> None:
    verified.attestations = [one | {"ref": ref} for one in verified.attestations]
    done = verified()
    assert done.code == 0, done.output
    assert place.provider.live().image == f"{IMAGE}@sha256:{DIGEST}"  # not by the tag, which may move
    assert place.serves()[1] == verified.url
    assert f"verified: {IMAGE}@sha256:{DIGEST} was built by ci.yml of {REPOSITORY}\n" in done.out
    assert f"verified: the model at {verified.url} was built by release.yml of {REPOSITORY}\n" in done.out
    (image, secrets), (model, _) = verified.calls()
    common = ["--repo", REPOSITORY, "--deny-self-hosted-runners", "--signer-workflow"]
    workflows = f"{REPOSITORY}/.github/workflows"
    assert image == [
        "attestation", "verify", f"oci://{IMAGE}:new", *common, f"{workflows}/ci.yml", "--format", "json",
    ]  # fmt: skip
    assert model[3:] == [*common, f"{workflows}/release.yml", "--format", "json"]
    assert secrets == ["GITHUB_TOKEN"]  # not the provider's, nor the service's


def test_an_image_by_digest_and_a_model_without_a_given_digest(place, verified) -> None:
    done = verified("--model-url", verified.url, image=f"{IMAGE}@sha256:{DIGEST}", model=False)
    assert done.code == 0, done.output
    assert place.provider.live().image == f"{IMAGE}@sha256:{DIGEST}"
    assert place.provider._instance.env["MODEL_SHA256"] == verified.sha256


def refused(name: str, verified: Verified) -> str:
    """Make one thing wrong; return what the error must say."""
    image, model = verified.attestations
    match name:
        case "image without attestation":
            verified.attestations = [model]
            return f":new has no valid attestation by ci.yml of {REPOSITORY}: no attestations found"
        case "model without attestation":  # a release that a person published
            verified.attestations = [image]
            return f"{verified.url} has no valid attestation by release.yml of {REPOSITORY}: no attestations"
        case "image that is not there":
            verified.images = {}
            return "manifest unknown"
        case "image of another workflow":
            image["workflow"] = "other.yml"
        case "model of another workflow":  # ci.yml may be changed by more people than release.yml
            model["workflow"] = "ci.yml"
        case "image of a branch":
            image["ref"] = "refs/heads/feature"
            return f"the image {IMAGE}:new has no attestation by ci.yml of {REPOSITORY} on main or a tag v*"
        case "model of a branch":
            model["ref"] = "refs/heads/main-2"
            return "on main or a tag v*"
        case "model of a pull request":
            model["ref"] = "refs/pull/1/merge"
            return "on main or a tag v*"
        case "image of another repository":
            image["repository"] = "someone/pets"
            return "no attestations found"
        case "two images in one attestation":
            image["others"] = [OTHER_DIGEST]
            return f"the attestations of {IMAGE}:new are of 2 images instead of one"
        case "old gh, image without attestation":
            verified.mode, verified.attestations = "old", [model]
            return "has no attestation by ci.yml"
        case "gh without JSON":
            verified.mode = "chatty"
            return "gh's output is not what its documentation says (JSONDecodeError)"
    return 'verifying with issuer "sigstore.dev"'


@pytest.mark.parametrize(
    "name",
    [
        "image without attestation", "model without attestation", "image that is not there",
        "image of another workflow", "model of another workflow", "image of a branch", "model of a branch",
        "model of a pull request", "image of another repository", "two images in one attestation",
        "old gh, image without attestation", "gh without JSON",
    ],
)  # fmt: skip
def test_what_is_not_attested_is_not_deployed(place, verified, name) -> None:
    reason = refused(name, verified)
    is_refused(verified(), place, reason)


@pytest.mark.parametrize("by_hand", [True, False], ids=["by hand", "by the workflow"])
def test_the_delivery_of_a_release(place, verified, deploy, by_hand, tmp_path) -> None:
    """As cd.yml runs it: a model that a person put into a release is not deployed."""
    tag, path = "c" * 40, tmp_path / "model.pt"
    shutil.copy(EMBEDDED, path)
    with zipfile.ZipFile(path, "a") as archive:  # the embedded model itself would need no attestation
        archive.comment = b"released"
    model, place.provider.run = path.read_bytes(), RealService
    place.provider.env["MODEL_CACHE_DIR"] = str(tmp_path / "cache")
    with github.GitHub().serving() as server:
        name = server.environment()["GITHUB_REPOSITORY"]
        place.provider.image_path = image = f"ghcr.io/{name}"
        url = server.download_url("model.pt", "v1.2.3")
        server.store.add("v1.2.3", {"model.pt": model})
        verified.images = {f"{image}:{tag}": DIGEST}
        verified.attestations = [attestation(DIGEST, "ci.yml", repository=name)]
        if not by_hand:
            sha256 = hashlib.sha256(model).hexdigest()
            verified.attestations.append(attestation(sha256, "release.yml", repository=name))
        env = deploy.env | verified.env() | server.environment()
        env |= {"API_KEY": "owners-secret-key", "VERIFY": "on", "IMAGE": tag, "RELEASE": "v1.2.3"}
        command = [sys.executable, "-m", "deploy", "deliver"]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S)
    output = done.stdout + done.stderr
    assert done.returncode == int(by_hand), output
    assert done.stdout.count("verified: ") == (1 if by_hand else 2)
    if by_hand:
        reason = f"/v1.2.3/model.pt has no valid attestation by release.yml of {name}: no attestations found"
        assert reason in done.stderr
        assert place.provider.seen == []
        assert place.serves() == ("old", OLD_URL)
    else:
        assert "checks passed" in done.stdout  # the real smoke test
        assert place.provider.live().image == f"{image}@sha256:{DIGEST}"
        assert place.serves()[1] == url


def test_another_model_than_the_one_that_was_named(place, verified, server) -> None:
    server.files["/v2/model.pt"] = b"another one"
    is_refused(verified(), place, "not the one of --model-sha256")
    del server.files["/v2/model.pt"]
    is_refused(verified(), place, "can't be downloaded to be verified: 127.0.0.1 answered 404")


def test_the_model_cannot_come_by_another_option(place, verified) -> None:
    verified.attestations = verified.attestations[:1]
    is_refused(verified("--env", f"MODEL_URL={verified.url}", model=False), place, "no attestations found")
    sha256 = ("--model-sha256", "0" * 64)
    is_refused(verified(*sha256, model=False), place, "--verify needs --model-url with --model-sha256")
    is_refused(verified("--model-url", "file:///m.pt", model=False), place, "starts with https://")


def test_the_embedded_model_needs_no_attestation(place, verified, server) -> None:
    """It is part of the repository and of the attested image, so a person may publish it."""
    server.files["/v2/model.pt"] = EMBEDDED.read_bytes()
    verified.attestations = verified.attestations[:1]
    done = verified("--model-url", verified.url, "--dry-run", model=False)
    assert done.code == 0, done.output
    assert f"verified: the model at {verified.url} is the embedded one\n" in done.out
    assert len(verified.calls()) == 1


def test_without_gh_nothing_is_deployed(place, verified, tmp_path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "bash").symlink_to(shutil.which("bash") or "bash")
    is_refused(verified(PATH=str(empty)), place, "--verify needs gh, GitHub's command-line tool")
    is_refused(verified(GITHUB_TOKEN=""), place, "set the GH_TOKEN environment variable")


def test_a_rollback_brings_back_what_was_verified_before(place, deploy) -> None:
    is_refused(deploy("--rollback", "--verify", REPOSITORY), place, "--verify is for --image")
    is_refused(deploy("--image", f"{IMAGE}:new", "--verify", "x"), place, "--verify must be OWNER/REPO")
    assert place.serves() == ("old", OLD_URL)
