"""`python -m deploy TARGET`: deploy an image and a model, or go back to the previous version."""

import sys

from deploy import TARGETS
from ml.cli import run

DESCRIPTION = (
    "Deploy an image and a model, run the smoke test, and roll back if it fails. "
    "Exit code 0: the new version serves. 1: it does not; the previous version serves and has passed the "
    "smoke test, or nothing was changed. 2: the rollback failed too, or there was nothing to go back to. 3: "
    "the canary's judge has rejected it; the previous version serves and has passed the smoke test. Wrong "
    "usage ends with 2 too."
)
COMMANDS = {name: (module, summary) for name, (module, summary, _) in TARGETS.items()} | {
    "deliver": (
        "deploy.deliver",
        "this repository's image and released model, to every target that is set up",
    ),
}

if __name__ == "__main__":
    sys.exit(run("deploy", DESCRIPTION, COMMANDS))
