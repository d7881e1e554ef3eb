"""A Ray cluster, whose nodes get this package `ml` from the process that joins it."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends no statistics of its use

import ray
from ray import exceptions

from ml.cli import note
from ml.model.errors import PipelineError, one_line
from ml.model.host import available_cpus

TASK_MEMORY = 500 << 20
"""Bytes that a task reserves: a node may have many CPUs and little memory."""
LOST = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,  # the result, together with the node that held it
    exceptions.LocalRayletDiedError,
)
"""A task's process or node died."""

_CONNECT_S = 10
_STORE = 100 << 20  # bytes of shared memory on a cluster of this machine: what tasks get and return


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names, or start one on this machine, until the context ends.

    The nodes get this package, so that they never work with another version. They need only the packages
    that it imports.

    Raises:
        PipelineError: there is no such cluster, its nodes can't get the code, or a task failed.
    """
    _connect()
    try:
        yield
    except exceptions.RayTaskError as error:
        reason = one_line(str(error.cause)) or type(error.cause).__name__
        raise PipelineError(f"a node of the Ray cluster failed: {reason}") from error
    except exceptions.RuntimeEnvSetupError as error:
        raise PipelineError(f"a node of the Ray cluster can't get the code: {error}") from error
    finally:
        ray.shutdown()


def cpus() -> int:
    """Return the number of CPUs that the cluster has now."""
    return int(ray.cluster_resources().get("CPU", 0))


def _connect() -> None:
    address = os.environ.get("RAY_ADDRESS")
    limits = {} if address else {"num_cpus": available_cpus(), "object_store_memory": _STORE}
    try:
        if address:
            _check_port(address)
        ray.init(
            address=address or "local",  # without an address, Ray would join any cluster that it finds here
            runtime_env={"py_modules": [str(Path(__file__).parent)], "excludes": ["__pycache__"]},
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level="ERROR",
            **limits,
        )
    except (OSError, RuntimeError, ValueError) as error:
        place = f"RAY_ADDRESS={address}" if address else "this machine"
        raise PipelineError(f"no Ray cluster at {place}: {error}") from error
    nodes = [node for node in ray.nodes() if node["Alive"]]
    note(f"Ray: {len(nodes)} nodes, {cpus()} CPUs")


def _check_port(address: str) -> None:
    """Raise OSError if nothing listens at an address with a port: Ray would try for more than ten minutes."""
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), _CONNECT_S).close()
