"""The targets of `python -m deploy`, each against its stand-in and with one interface for tests."""

import hashlib
import os
from pathlib import Path
from typing import Any, ClassVar

from tests.helpers.deploying import Deploying
from tests.standins.cloud_run import CloudRun
from tests.standins.kubernetes import CONTEXT, Kubernetes
from tests.standins.render import Render

IMAGE = "registry.example/cats-vs-dogs"
OLD_URL, NEW_URL = "https://example.org/v1/model.pt", "https://example.org/v2/model.pt"
TOKEN = "token-0123456789abcdef"
CLOUD_RUN_SERVICE = "/projects/demo/locations/europe-west1/services/cats-vs-dogs"


def sha256(url: str) -> str:
    """The SHA-256 of the model that a fake instance serves for a URL."""
    return hashlib.sha256(url.encode()).hexdigest()


OLD_ENV = {"MODEL_URL": OLD_URL, "MODEL_SHA256": sha256(OLD_URL), "API_KEYS": "owners-secret-key"}
NEW = ("--image", f"{IMAGE}:new", "--model-url", NEW_URL, "--model-sha256", sha256(NEW_URL))


class Place:
    """Where a test deploys to.

    A subclass also has `make(tag)`, after which an image of the owner's serves; `serves()`, the image's tag
    and the model's URL of the version that gets the requests; and `versions()`, how many there have been.

    Attributes:
        target: its name on the command line.
        provider: the stand-in.
        start: method and path of the request that starts a new version.
        back: the same for the one that goes back.
        takes_secrets: whether its variables may hold secrets.
        reasons: what the error says about a version that ends (crash), or never gets ready (stuck).
    """

    target: str
    provider: Any
    start: tuple[str, str]
    back: tuple[str, str]
    takes_secrets = True
    reasons: ClassVar[dict[str, str]]

    def deploying(self, folder: Path) -> Deploying:
        return Deploying(folder, self.target, (TOKEN, "owners-secret-key"), **self.env())


class RenderPlace(Place):
    target = "render"
    start, back = ("POST", ".*/deploys"), ("POST", ".*/rollback")
    reasons: ClassVar = {
        "crash": "update_failed, unhealthy: Exited with status 1",
        "stuck": "not done after 3 s; its last status was update_in_progress",
    }

    def __init__(self, _folder: Path) -> None:
        self.provider = Render(token=TOKEN)

    def make(self, tag: str) -> None:
        self.provider.deploy(f"{IMAGE}:{tag}", **OLD_ENV)

    def serves(self) -> tuple[str, str]:
        return _tag(self.provider.live().image), self.provider._instance.env["MODEL_URL"]

    def versions(self) -> int:
        return len(self.provider.deploys)

    def env(self) -> dict[str, str]:
        service = {"RENDER_SERVICE_ID": "srv-standin", "RENDER_API_URL": self.provider.url}
        return service | {"RENDER_API_KEY": TOKEN}


class CloudRunPlace(Place):
    target = "cloud-run"
    start = back = ("PATCH", CLOUD_RUN_SERVICE)
    reasons: ClassVar = {
        "crash": "is not ready and cannot serve traffic. The user-provided container failed to start",
        "stuck": "not done after 3 s; its last status was under way",
    }

    def __init__(self, _folder: Path) -> None:
        self.provider = CloudRun(TOKEN)

    def make(self, tag: str) -> None:
        self.provider.make(f"{IMAGE}:{tag}", **OLD_ENV)

    def serves(self) -> tuple[str, str]:
        revision = self.provider.live()
        assert self.provider.front.instance is revision.instance
        return _tag(revision.template["containers"][0]["image"]), revision.env()["MODEL_URL"]

    def versions(self) -> int:
        return len(self.provider.revisions)

    def env(self) -> dict[str, str]:
        service = {"GCP_PROJECT": "demo", "GCP_REGION": "europe-west1", "CLOUD_RUN_SERVICE": "cats-vs-dogs"}
        address = self.provider.url.removesuffix(self.provider.prefix)
        return service | {"CLOUD_RUN_API_URL": address, "GCP_ACCESS_TOKEN": TOKEN}


class KubernetesPlace(Place):
    target = "kubernetes"
    start, back = ("POST", "/apply"), ("POST", "/rollout/undo")
    takes_secrets = False
    reasons: ClassVar = {
        "crash": "exceeded its progress deadline",
        "stuck": "timed out waiting for the condition",
    }

    def __init__(self, folder: Path) -> None:
        self.provider = Kubernetes(folder)

    def make(self, tag: str) -> None:
        self.provider.make(f"{IMAGE}:{tag}", OLD_ENV)
        self.provider.live = self.provider.wanted

    def serves(self) -> tuple[str, str]:
        return _tag(self.provider.live.image), self.provider.live.env["MODEL_URL"]

    def versions(self) -> int:
        return len(self.provider.revisions)

    def env(self) -> dict[str, str]:
        return {"PATH": f"{self.provider.folder}:{os.environ['PATH']}"}

    def deploying(self, folder: Path) -> Deploying:
        deploying = super().deploying(folder)
        deploying.options += ("--context", CONTEXT)
        return deploying


PLACES: dict[str, type[Any]] = {
    place.target: place for place in (RenderPlace, CloudRunPlace, KubernetesPlace)
}


def _tag(image: str) -> str:
    return image.rpartition(":")[2]
