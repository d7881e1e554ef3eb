"""An image with several models, and `python -m deploy docker` for containers of one name."""

import contextlib
import json
import shutil
import socket
import subprocess
import uuid
from pathlib import Path

from ml.model.partial import sha256_of
from scripts.common.process import free_port
from tests.helpers import model_copies
from tests.helpers.container import ENGINE, build, engine
from tests.helpers.deploying import Deploying, Done
from tests.helpers.waiting import HANG_S

KEY = "key-of-the-service-0123"


class Models:
    """An image with three models: two good ones, and one whose classes are swapped."""

    def __init__(self, image: str, folder: Path) -> None:
        model_copies.same(folder / "v1.pt")
        model_copies.same(folder / "v2.pt")
        model_copies.swapped(folder / "swapped.pt")
        (folder / "Dockerfile").write_text(f"FROM {image}\nCOPY *.pt /models/\n")
        self.image = f"cats-vs-dogs:deploy-{uuid.uuid4().hex[:8]}"
        build(tag=self.image, folder=folder)
        self.sha256 = {name: sha256_of(folder / f"{name}.pt") for name in ("v1", "v2", "swapped")}

    def options(self, name: str) -> tuple[str, ...]:
        """Return the options that deploy one of the models."""
        url = f"file:///models/{name}.pt"
        return ("--image", self.image, "--model-url", url, "--model-sha256", self.sha256[name])


def port_with_free_neighbours() -> int:
    """Return a free port whose next two are free too: the two versions of a canary get them."""
    while True:
        port = free_port()
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for neighbour in (port + 1, port + 2):
                stack.enter_context(socket.create_server(("127.0.0.1", neighbour)))
            return port


class Machine:
    """The containers of one name, and `python -m deploy docker` for them."""

    def __init__(self, folder: Path) -> None:
        self.name, self.port = f"test-deploy-{uuid.uuid4().hex[:8]}", port_with_free_neighbours()
        self.url = f"http://127.0.0.1:{self.port}"
        self.deploying = Deploying(folder, "docker", (KEY,))
        quick = folder / "quick.sh"
        quick.write_text('curl -s "$1/model" | grep -q "${EXPECTED_SHA256:-sha256}"')
        # A look asks the engine, which takes more CPU time than what the container does meanwhile.
        self.deploying.options += (
            "--smoke-test",
            str(quick),
            "--poll",
            "0.25",
            "--timeout",
            str(HANG_S),
            "--name",
            self.name,
            "--port",
            str(self.port),
        )

    def __call__(self, *options: str, **env: str) -> Done:
        return self.deploying(*options, **env)

    def containers(self) -> dict[str, str]:
        """Return the state of each container, such as running or exited."""
        names = engine("ps", "--all", "--filter", f"name={self.name}", "--format", "{{.Names}}").split()
        return {name: self.inspect("{{.State.Status}}", name) for name in names}

    def inspect(self, template: str, name: str = "") -> str:
        return engine("inspect", "--format", template, name or self.name).strip()

    def model(self) -> str:
        """Return the SHA-256 of the model that answers."""
        answer = subprocess.run(
            ["curl", "-s", f"{self.url}/model"], capture_output=True, timeout=HANG_S
        ).stdout
        return str(json.loads(answer)["sha256"])


def engine_that(folder: Path, does: str) -> str:
    """Return the path of an engine that runs this bash code first."""
    command = folder / "engine"
    command.write_text(f'#!/bin/bash\ncd "{folder}"\n{does}\nexec "{shutil.which(str(ENGINE))}" "$@"\n')
    command.chmod(0o755)
    return str(command)
