"""What a rehearsal needs from this machine: docker or podman, and a stand-in for GitHub."""

import contextlib
import os
import socket
from collections.abc import Iterator

from deploy.docker import Engine
from deploy.target import DeployError
from scripts.standins.github import GitHub


class RehearsalError(Exception):
    """A step did not end as it should."""


@contextlib.contextmanager
def prepared(name: str) -> Iterator[dict[str, str]]:
    """Start the stand-in for GitHub; yield the environment variables that name it and the container engine.

    Args:
        name: of the container that will be deployed; it is removed at the end.

    Raises:
        RehearsalError: there is no container engine.
    """
    try:
        engine = Engine(os.environ)
    except DeployError as error:
        raise RehearsalError(str(error)) from None
    # It listens on all addresses, because the container downloads from it too.
    with GitHub(host="0.0.0.0").serving() as github:  # noqa: S104
        try:
            yield {"CONTAINER": engine.command} | github.environment()
        finally:
            for suffix in ("", "-next", "-previous"):
                with contextlib.suppress(DeployError):
                    engine.remove(name + suffix)


def own_address() -> str:
    """Return an address of this machine that containers can reach; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return "127.0.0.1"
