"""The command line of the tests that put a service under load."""

import argparse
import contextlib
import os
from collections.abc import Callable

from scripts.common import process
from scripts.common.web import RequestError
from scripts.stress.client import Client


def run_test(
    parser: argparse.ArgumentParser,
    test: Callable[[Client, int | None, argparse.Namespace], list[str]],
    **env: str,
) -> int:
    """Add the arguments that name the service, parse the command line and run a test on the service.

    Args:
        parser: has the other arguments of the test.
        test: takes a client of the service, its process id if that is known, and the arguments; returns one
            line per failure.
        env: settings of the service that is started, unless the environment has them.

    Returns:
        The exit code: 1 after a failure.
    """
    parser.add_argument("--url", help="URL of a running service (default: start one for the test)")
    parser.add_argument("--pid", type=int, help="process id of the service at --url, to watch its memory")
    options = parser.parse_args()
    running = contextlib.nullcontext((options.url, options.pid))
    settings = {name: os.environ.get(name, value) for name, value in env.items()}
    failures: list[str] = []
    try:
        with running if options.url else process.service(**settings) as (url, pid):
            failures += test(Client(url), pid, options)
    except RequestError as error:
        parser.error(str(error))
    except process.ProcessError as error:
        failures.append(str(error))
    for failure in failures:
        print(f"failed: {failure}")
    return int(bool(failures))
