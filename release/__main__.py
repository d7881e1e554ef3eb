"""`python -m release COMMAND`: judge a model and publish it as a GitHub release."""

import sys

from ml.cli import run

COMMANDS = {
    "gate": ("release.gate", "compare models/model.pt with the latest release; exit code 1 if it is worse"),
    "publish": ("release.publish", "publish models/model.pt and its reports as a GitHub release"),
    "due": ("release.due", "decide whether to train again since the latest release"),
    "issue": ("release.issue", "open, update or close the issue about a model that is not in service"),
    "model-url": ("release.model_url", "print MODEL_URL and MODEL_SHA256 of a release"),
}

if __name__ == "__main__":
    sys.exit(run("release", "Judge a model and publish it as a GitHub release.", COMMANDS))
