"""The command line that all targets share."""

import argparse
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from deploy import attestation, flow
from deploy.canary import options
from deploy.cancellation import CANCELLATION
from deploy.output import complain, hide, hide_variables
from deploy.smoke import SCRIPT, SmokeTest
from deploy.target import DeployError, Target

_SECRETS = ("API_KEY", "METRICS_TOKEN", "MODEL_TOKEN", "GITHUB_TOKEN")
# PORT belongs to the platform and the folders to the image; the others would change the container engine.
_NOT_TO_SET = re.compile(r"PORT|HOST|MODEL_CACHE_DIR|TMPDIR|PATH|HOME|LD_.*|DOCKER_.*|CONTAINERS?_.*|XDG_.*")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every target has."""
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--image", help="reference of the image to deploy, best by digest: NAME@sha256:...")
    action.add_argument(
        "--rollback",
        nargs="?",
        const="",
        metavar="ID",
        help="go back to the previous deployment, or to the one with this ID",
    )
    parser.add_argument("--model-url", default="", metavar="URL", help="MODEL_URL of the service from now on")
    parser.add_argument(
        "--model-sha256", default="", metavar="SHA256", help="the model file's SHA-256, 64 hexadecimal digits"
    )
    parser.add_argument(
        "--verify",
        default="",
        metavar="OWNER/REPO",
        help="deploy only an image and a model that this repository's workflows have attested; needs gh",
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="variable of the service; without =VALUE, its value is taken from this environment; repeatable",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what serves now and what would change, and change nothing",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=900,
        metavar="SECONDS",
        help="time limit of a deploy or a rollback (default: 900)",
    )
    parser.add_argument(
        "--poll", type=float, default=5, metavar="SECONDS", help="pause between two requests (default: 5)"
    )
    parser.add_argument(
        "--smoke-test",
        type=Path,
        default=SCRIPT,
        metavar="SCRIPT",
        help="bash script that tests the service at a URL; reads API_KEY, METRICS_TOKEN and WAIT_SECONDS "
        "(default: scripts/smoke_test.sh)",
    )
    options.configure(parser)


def run(
    arguments: argparse.Namespace, target_type: Callable[[Mapping[str, str], argparse.Namespace], Target]
) -> int:
    """Deploy or roll back as the command line says, and return the exit code.

    `target_type` makes the target of environment and arguments; it raises DeployError if a setting is wrong.
    """
    hide(*(os.environ.get(name, "") for name in _SECRETS))
    try:
        if os.name == "nt":  # it has no process groups, by which other programs are ended
            raise DeployError("python -m deploy does not run on Windows itself: run it in WSL")
        image, changes = arguments.image, variables(arguments)
        hide_variables(changes)
        smoke = _smoke_test(arguments)
        if image is None and changes:
            raise DeployError("--rollback brings back the old model and variables; it accepts no new ones")
        if image is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,500}", image):
            raise DeployError("--image is not the reference of an image")
        if arguments.verify:
            image = _verified(arguments.verify, image, changes)
        canary = options.options(arguments)
        if canary and image is None:
            raise DeployError("--canary is for --image: a rollback brings all traffic back at once")
        target = target_type(os.environ, arguments)
        if image is None:
            return flow.roll_back(target, smoke, arguments.rollback, arguments.dry_run)
        return flow.deploy(target, smoke, image, changes, arguments.dry_run, canary)
    except flow.NotTakenBackError as error:
        complain(str(error))
        return flow.BROKEN
    except KeyboardInterrupt:
        CANCELLATION.came = True  # so that `deliver` does not go on to the next target
        complain("interrupted; nothing was changed")
    except Exception as error:  # noqa: BLE001  (its text may hold a secret)
        complain(f"{flow.as_deploy_error(error)}; nothing was changed")
    return 1


def _verified(repository: str, image: str | None, changes: dict[str, str | None]) -> str:
    """Return the image by its verified digest, and pin the model in `changes` to its verified SHA-256."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+", repository):
        raise DeployError("--verify must be OWNER/REPO")
    if image is None:
        raise DeployError("--verify is for --image: a rollback brings back what was verified before")
    url, sha256 = changes.get("MODEL_URL") or "", changes.get("MODEL_SHA256") or ""
    if sha256 and not url:
        raise DeployError("--verify needs --model-url with --model-sha256")
    image = attestation.verify_image(repository, image)
    if url:
        changes["MODEL_SHA256"] = attestation.verify_model(repository, url, sha256)
    return image


def _smoke_test(arguments: argparse.Namespace) -> SmokeTest:
    if arguments.poll <= 0 or arguments.timeout <= 0:
        raise DeployError("--poll and --timeout must be more than 0")
    wait = os.environ.get("WAIT_SECONDS") or "120"
    if not re.fullmatch(r"\d{1,4}", wait):
        raise DeployError("WAIT_SECONDS must be a whole number of at most 4 digits")
    return SmokeTest(arguments.smoke_test, int(wait), arguments.poll)


def variables(arguments: argparse.Namespace) -> dict[str, str | None]:
    """Return the changes of the service's environment.

    Raises:
        DeployError: an option is wrong; the message repeats no value.
    """
    changes: dict[str, str | None] = {}
    for option in arguments.env:
        name, has_value, value = option.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or _NOT_TO_SET.fullmatch(name):
            raise DeployError("--env needs NAME or NAME=VALUE, and must not set the port or the folders")
        if not has_value and name not in os.environ:
            raise DeployError(f"--env {name}: this environment has no such variable to take the value from")
        changes[name] = value if has_value else os.environ[name]
    if arguments.model_url:
        # The SHA-256 of another model would keep the service from starting.
        changes |= {"MODEL_URL": arguments.model_url, "MODEL_SHA256": None}
    if url := changes.get("MODEL_URL"):
        try:
            scheme = urlsplit(url).scheme
        except ValueError:
            scheme = ""
        if scheme not in ("http", "https", "file"):
            raise DeployError("MODEL_URL must be a URL that starts with https://, http:// or file://")
    if arguments.model_sha256:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", arguments.model_sha256):
            raise DeployError("--model-sha256 must be 64 hexadecimal digits")
        changes["MODEL_SHA256"] = arguments.model_sha256.lower()
    if any("\0" in (value or "") or "\n" in (value or "") for value in changes.values()):
        raise DeployError("--env: a value must be one line")
    return changes
