"""What a rehearsal needs of this machine: docker or podman, and a server that stands in for GitHub."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from deployment.engine import Engine
from deployment.target import DeployError


class RehearsalError(Exception):
    """A step that didn't end as it should."""


@contextlib.contextmanager
def prepared(folder: Path, name: str) -> Iterator[dict[str, str]]:
    """Yield the environment that leads commands to the engine and to GitHub's stand-in.

    Args:
        folder: where the stand-in keeps what is released.
        name: of the container that is deployed; in the end it is removed.

    Raises:
        RehearsalError: there is no engine.
    """
    from tests.standins.github import GitHub

    try:
        engine = Engine(os.environ)
    except DeployError as error:
        raise RehearsalError(str(error)) from None
    # On all addresses: the container downloads from it too.
    with GitHub(folder, host="0.0.0.0").serving() as github:  # noqa: S104
        try:
            yield {"CONTAINER": engine.command} | github.environment()
        finally:
            for suffix in ("", "-next", "-previous"):
                with contextlib.suppress(DeployError):
                    engine.remove(name + suffix)


def own_address() -> str:
    """Return an address of this machine that containers reach too; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"
