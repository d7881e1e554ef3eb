"""Film a rehearsal: writes docs/recording.mp4, its poster docs/recording.png, and docs/terminal.png.

The film shows a browser window: the terminal in which the rehearsal runs, from a change of params.yaml to a
rollback, and the pages of MLflow, the service and Prometheus. Nothing is staged. Waits are cut, and the
prompt shows the time. Recording takes about 10 minutes. It needs what scripts/rehearsal.py needs, and
ffmpeg, chromium and prometheus.

Exit code 0: the files are written.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

from scripts.common import arguments
from scripts.common.chromium import CHROMIUM
from scripts.common.process import ROOT, ProcessError
from scripts.filming.camera import Camera
from scripts.filming.filmed_rehearsal import FilmedRehearsal
from scripts.rehearsal import RehearsalError, prepared

LONGEST_S, LARGEST_BYTES = 300, 5_000_000


def record(target: Path) -> None:
    """Film a rehearsal and write the files into a folder.

    Raises:
        RehearsalError: a step did not end as it should, or the film is too long or too large.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="recording-") as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        with prepared(FilmedRehearsal.name) as (env, _):
            camera = Camera(playwright, folder / "frames", target)
            FilmedRehearsal(folder / "demo", env, camera).rehearse()
        camera.hold(4)
        camera.picture("terminal.png", full_page=True)
        camera.save("recording.mp4")
    size = (target / "recording.mp4").stat().st_size
    print(f"{target}/recording.mp4: {camera.seconds:.0f} s, {size:,} bytes")
    if camera.seconds >= LONGEST_S or size > LARGEST_BYTES:
        raise RehearsalError(f"the film must stay under {LONGEST_S} s and {LARGEST_BYTES:,} bytes")


def main() -> int:
    """Check the tools and record; return the exit code."""
    parser = arguments.parser("recording", __doc__, "--folder /tmp/film")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="where to write (default: docs)")
    options = parser.parse_args()
    missing = [tool for tool in ("curl", "ffmpeg", "git", "make", "prometheus") if not shutil.which(tool)]
    missing += [] if CHROMIUM else ["chromium"]
    if missing:
        sys.exit(f"error: not installed: {', '.join(missing)} (these are the names of Debian's packages)")
    try:
        record(options.folder)
    except KeyboardInterrupt:
        return 130
    except (RehearsalError, ProcessError, OSError, subprocess.CalledProcessError, Error) as error:
        sys.exit(f"error: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
