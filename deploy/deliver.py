"""Deploy this repository's image and released model to every target that is set up.

.github/workflows/cd.yml runs it with these variables of the environment, which the options override:

  ACTION   deploy, or rollback: to the previous version
  ROLLBACK_TO  id of a deployment of one target, to which a rollback goes; empty: the previous one
  TARGET   one target, or auto: those whose variables are set, or docker if there is none
  IMAGE    a tag of this repository's image, such as a commit, or a whole reference
  RELEASE  tag of the release whose model is to serve; empty: the latest, or no model before the first one
  CANARY   shares of the traffic that the new version gets first, in percent, such as 10,50; empty: none
  CANARY_MINUTES   minutes at each share
  MODEL_TOKEN      for docker: the token with which the container gets a private repository's model
  VERIFY   on: deploy only an image and a model that GITHUB_REPOSITORY's workflows have attested; needs gh

A rollback is not verified: it brings back what was verified when it was deployed, also if GitHub is down.
It also needs what each target reads (python -m deploy TARGET --help) and what `python -m release model-url`
reads: GITHUB_REPOSITORY and GITHUB_TOKEN. The exit code is the worst of all targets: 2 before 1, 3 and 0.
"""

import argparse
import os
import subprocess
import sys

from deploy import TARGETS
from deploy.cancellation import CANCELLATION
from ml.cli import note, run, say
from ml.model.errors import PipelineError

EXAMPLE = "python -m deploy deliver --image COMMIT --release v1.2.3"


_SEVERITY = (0, 3, 1, 2)
"""Exit codes of targets, from good to bad."""
_WRONG_USAGE = 2
"""Exit code of argparse. A target's own 2 is returned: it never ends the process."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    for name, default, text in (
        ("action", "deploy", "deploy or rollback"),
        ("rollback-to", "", "id of the deployment to go back to; empty: the previous one"),
        ("target", "auto", f"auto, {', '.join(TARGETS)}"),
        ("image", "", "tag or reference of the image"),
        ("release", "", "tag of the release; empty: the latest"),
        ("canary", "", "shares of the traffic in percent; empty: no canary"),
        ("canary-minutes", "15", "minutes at each share"),
        ("verify", "off", "on or off"),
    ):
        variable = name.upper().replace("-", "_")
        value = os.environ.get(variable) or default
        parser.add_argument(f"--{name}", default=value, help=f"{text} (default: ${variable}, or '{default}')")


def main(arguments: argparse.Namespace) -> int:
    """Deploy to all targets and return the worst exit code."""
    set_up = [name for name, (*_, variables) in TARGETS.items() if any(map(os.environ.get, variables))]
    targets = (set_up or ["docker"]) if arguments.target == "auto" else [arguments.target]
    if arguments.target == "auto" and not set_up:
        note("no target's variables are set, so this deploys to docker on this machine")
    if arguments.verify not in ("on", "off"):
        raise PipelineError("VERIFY must be on or off")
    if arguments.action not in ("deploy", "rollback") or not {*targets} <= {*TARGETS}:
        raise PipelineError(f"ACTION must be deploy or rollback, and TARGET auto, {', '.join(TARGETS)}")
    if arguments.rollback_to and (arguments.action, len(targets)) != ("rollback", 1):
        raise PipelineError("ROLLBACK_TO needs ACTION rollback and one TARGET, to which the id belongs")
    options = [f"--rollback={arguments.rollback_to}" if arguments.rollback_to else "--rollback"]
    if arguments.action == "deploy":
        options = ["--image", _reference(arguments.image), *_model_options(arguments.release)]
        if arguments.verify == "on":
            options += ["--verify", os.environ.get("GITHUB_REPOSITORY", "")]
        else:
            say("VERIFY is off: the attestations of image and model are not checked")
        if arguments.canary:
            options += ["--canary", arguments.canary, "--minutes", arguments.canary_minutes]
    worst = 0
    for target in targets:
        say(f"== {target}")
        code = _deploy([target, *options, *_token_options(target, arguments.action)])
        worst = max(worst, code, key=_severity)
        if CANCELLATION.came:
            break
    return worst


def _deploy(arguments: list[str]) -> int:
    """Run the command of one target; if it cannot even start, the next target still has its turn."""
    from deploy.__main__ import COMMANDS

    try:
        return run("deploy", "", COMMANDS, arguments)
    except SystemExit as failure:
        if not isinstance(failure.code, int):
            note(str(failure.code))
        elif failure.code != _WRONG_USAGE:
            return failure.code
        return 1


def _token_options(target: str, action: str) -> list[str]:
    """Return the option that passes MODEL_TOKEN on to a container; services elsewhere have their own."""
    wanted = target == "docker" and action == "deploy" and os.environ.get("MODEL_TOKEN")
    return ["--env", "MODEL_TOKEN"] if wanted else []


def _severity(code: int) -> int:
    return _SEVERITY.index(code) if code in _SEVERITY else len(_SEVERITY)


def _reference(image: str) -> str:
    """Return the whole reference of an image."""
    repository = os.environ.get("GITHUB_REPOSITORY", "").lower()
    if not image or not ("/" in image or repository):
        raise PipelineError("IMAGE must be a whole reference, or a tag if GITHUB_REPOSITORY is OWNER/REPO")
    return image if "/" in image else f"ghcr.io/{repository}:{image}"


def _model_options(release: str) -> list[str]:
    """Return the options that deploy a release's model; none if there is no release yet."""
    command = [sys.executable, "-m", "release", "model-url", *([release] if release else [])]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  (its requests have limits)
    if done.returncode:  # it has printed the reason
        raise PipelineError("the release's model cannot be found; nothing was changed")
    values = dict(line.split("=", 1) for line in done.stdout.split() if "=" in line)
    return ["--model-url", values["MODEL_URL"], "--model-sha256", values["MODEL_SHA256"]] if values else []
