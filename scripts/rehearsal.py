"""Rehearse a release on this machine: pipeline, GitHub release, container image, deployment, and a rollback.

It trains and deploys v1.0.0, then trains v1.1.0 on photos in the wrong folders. The smoke test must reject
v1.1.0, and v1.0.0 must come back. Everything is real except GitHub, for which a local server stands in. The
commands run in a temporary copy of the repository, so your files do not change.

It needs docker or podman; the environment variable CONTAINER names another command.

Exit code 0: every step ended as it should.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from scripts.rehearsing.machine import RehearsalError, prepared
from scripts.rehearsing.rehearsal import Rehearsal


def main() -> int:
    """Rehearse; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.rehearsal",
        description=__doc__,
        epilog="examples:\n  python -m scripts.rehearsal\n  CONTAINER=podman python -m scripts.rehearsal",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as temporary:
        folder = Path(temporary)
        try:
            with prepared(Rehearsal.name) as env:
                Rehearsal(folder, env).rehearse()
        except RehearsalError as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
