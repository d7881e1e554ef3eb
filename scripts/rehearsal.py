#!/usr/bin/env python3
"""The whole way on this machine: photos, pipeline, release, image, deployment; then a bad release, caught.

usage: rehearsal.py

Everything is real but GitHub, for which a server on this machine stands in (tests/standins/github.py). The
repository is copied first, so nothing of yours changes; the photos are cut out of the two in tests/photos.
Needs docker or podman (CONTAINER names another command). Exit code 0: each step ended as it should.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rehearsing.machine import RehearsalError, prepared
from rehearsing.rehearsal import SMALL, Rehearsal


def rehearse(rehearsal: Rehearsal) -> None:
    """Go the whole way.

    Raises:
        RehearsalError: a step ended in another way than it should.
    """
    rehearsal.say("a copy of the repository, with a small pipeline")
    rehearsal.copy_repository()
    rehearsal.choose(SMALL)
    rehearsal.say("photos, pipeline, gate, release v1.0.0")
    good = rehearsal.release("v1.0.0")
    rehearsal.say("the image")
    rehearsal.run("make", "image", f"IMAGE={rehearsal.image}")
    rehearsal.say("v1.0.0 is deployed: it downloads its model from the release, through a redirect")
    rehearsal.deploy("v1.0.0")
    rehearsal.must_serve(good)
    rehearsal.say("v1.1.0 comes of photos in the wrong folders: its own test photos can't tell")
    bad = rehearsal.release("v1.1.0", mixed_up=True)
    if bad == good:
        raise RehearsalError("the second model is the first one")
    rehearsal.say("v1.1.0 is deployed: the smoke test fails, v1.0.0 comes back, the exit code is 1")
    rehearsal.deploy("v1.1.0", expected=1)
    rehearsal.must_serve(good)
    rehearsal.say(f"as it should be: {good} serves")


def main() -> int:
    """Run it; return the exit code."""
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as temporary:
        folder = Path(temporary)
        try:
            with prepared(folder / "github", Rehearsal.name) as env:
                rehearse(Rehearsal(folder, env))
        except RehearsalError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
