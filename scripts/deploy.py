#!/usr/bin/env python3
"""Deploy an image and a model, test what answers then, and go back to what served before where that fails.

usage: deploy.py TARGET --image IMAGE [--model-url URL [--model-sha256 SHA]] [--env NAME[=VALUE] …]
       deploy.py TARGET --rollback [ID]

TARGET     docker, render or cloud-run, each with its environment variables:
render     RENDER_API_KEY, RENDER_SERVICE_ID
cloud-run  GCP_ACCESS_TOKEN, GCP_PROJECT, GCP_REGION, CLOUD_RUN_SERVICE
docker     CONTAINER (docker or podman; found where unset)
all        API_KEY of the service, for the smoke test, where the service needs one

Exit code 0: what was asked for serves. 1: it doesn't, but what served before does, and has passed the smoke
test; or nothing was changed. 2: the rollback failed too, or there was nothing to go back to.
"""

import argparse
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from deployment import flow
from deployment.cloud_run import CloudRun
from deployment.docker import Docker
from deployment.output import complain, hide, hide_variables
from deployment.render import Render
from deployment.smoke import SCRIPT, SmokeTest
from deployment.target import DeployError, Target

_SECRETS = ("RENDER_API_KEY", "GCP_ACCESS_TOKEN", "API_KEY", "METRICS_TOKEN", "MODEL_TOKEN", "GITHUB_TOKEN")
# PORT is the platform's, the folders are the image's; the others would change the engine and not the service.
_NOT_TO_SET = re.compile(r"PORT|HOST|MODEL_CACHE_DIR|TMPDIR|PATH|HOME|LD_.*|DOCKER_.*|CONTAINERS?_.*|XDG_.*")


def variables(options: argparse.Namespace) -> dict[str, str | None]:
    """Return what changes in the service's environment.

    Raises:
        DeployError: an option is bad; the message repeats no value.
    """
    changes: dict[str, str | None] = {}
    for setting in options.env:
        name, given, value = setting.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or _NOT_TO_SET.fullmatch(name):
            raise DeployError(
                "--env: NAME or NAME=VALUE, of a variable of the service other than PORT and its folders"
            )
        if not given and name not in os.environ:
            raise DeployError(
                f"--env {name}: there is no such variable in the environment to take the value from"
            )
        changes[name] = value if given else os.environ[name]
    if options.model_url:
        try:
            scheme = urlsplit(options.model_url).scheme
        except ValueError:
            scheme = ""
        if scheme not in ("http", "https", "file"):
            raise DeployError("--model-url must be a URL that starts with https://, http:// or file://")
        # Another model's pin would stop the start.
        changes |= {"MODEL_URL": options.model_url, "MODEL_SHA256": None}
    if options.model_sha256:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", options.model_sha256):
            raise DeployError("--model-sha256 must be 64 hexadecimal digits")
        changes["MODEL_SHA256"] = options.model_sha256.lower()
    if any("\0" in (value or "") or "\n" in (value or "") for value in changes.values()):
        raise DeployError("--env: a value has several lines")
    return changes


def target(options: argparse.Namespace) -> Target:
    """Return the target that the command line names.

    Raises:
        DeployError: one of its settings is missing or bad.
    """
    if options.target == "render":
        return Render(os.environ, options.timeout, options.poll)
    if options.target == "cloud-run":
        return CloudRun(os.environ, options.timeout, options.poll)
    mend = not options.dry_run
    return Docker(os.environ, options.timeout, options.poll, options.name, options.bind, options.port, mend)


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("target", choices=("docker", "render", "cloud-run"))
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--image", help="best by digest: name@sha256:…")
    what.add_argument(
        "--rollback", nargs="?", const="", metavar="ID", help="to the deployment before, or to ID"
    )
    parser.add_argument("--model-url", default="")
    parser.add_argument("--model-sha256", default="")
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="without a value: that of the environment",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what serves and what would change")
    parser.add_argument(
        "--timeout", type=float, default=900, help="seconds for a deploy or a rollback (default: 900)"
    )
    parser.add_argument("--poll", type=float, default=5, help="seconds between two looks (default: 5)")
    parser.add_argument("--smoke-test", type=Path, default=SCRIPT, metavar="SCRIPT")
    docker = parser.add_argument_group("docker")
    docker.add_argument("--name", default="cats-vs-dogs", help="of the container (default: cats-vs-dogs)")
    docker.add_argument("--bind", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    docker.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    hide(*(os.environ.get(name, "") for name in _SECRETS))
    try:
        changes = variables(options)
        hide_variables(changes)
        if options.poll <= 0 or options.timeout <= 0:
            raise DeployError("--poll and --timeout must be more than 0")
        wait = os.environ.get("WAIT_SECONDS") or "120"
        if not re.fullmatch(r"\d{1,4}", wait):
            raise DeployError("WAIT_SECONDS must be a whole number")
        smoke = SmokeTest(options.smoke_test, int(wait), options.poll)
        if options.image is None:
            if changes:
                raise DeployError(
                    "--rollback takes neither a model nor variables: it brings back those of then"
                )
            return flow.roll_back(target(options), smoke, options.rollback, options.dry_run)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,500}", options.image):
            raise DeployError("--image: no image's reference")
        return flow.deploy(
            target(options), smoke, options.image, changes, options.model_sha256.lower(), options.dry_run
        )
    except DeployError as error:
        complain(f"{error}; nothing was changed")
        return 1
    except KeyboardInterrupt:
        complain("interrupted; nothing was changed")
        return 1


if __name__ == "__main__":
    sys.exit(main())
