"""Film the way from a change to a better model: docs/recording.mp4, docs/recording.png and docs/terminal.png.

The film shows a browser window: the page of the service with its embedded model, then the rehearsal of
scripts/loop.py, in a terminal and on the pages of MLflow, Prometheus and the review. Nothing is staged. Waits
are cut, and the prompt shows the time. Recording takes about 15 minutes. It needs what scripts/loop.py needs,
and curl, ffmpeg, git, make and chromium.

The film is not part of the repository: scripts/publish.sh attaches it to the release. The two pictures are.

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
from scripts.common.process import ROOT
from scripts.filming.camera import Camera
from scripts.filming.filmed_loop import FilmedLoop
from scripts.loop import ERRORS, SIZES
from scripts.looping import photos
from scripts.looping.proxy_image import haproxy_image
from scripts.rehearsal import RehearsalError, prepared

LONGEST_S, LARGEST_BYTES = 300, 5_000_000


def record(target: Path, source: Path | None) -> None:
    """Film a rehearsal and write the files into a folder.

    Args:
        target: the folder.
        source: of the photos; None: parts of the two photos in tests/photos.

    Raises:
        ValueError: there are too few photos.
        RehearsalError: a step did not end as it should, or the film is too long or too large.
    """
    parts = photos.parts(source, SIZES)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="recording-") as temporary, sync_playwright() as playwright:
        folder = Path(temporary)
        with (
            prepared(FilmedLoop.name) as (env, github),
            haproxy_image(env["CONTAINER"]) as proxy_image,
        ):
            camera = Camera(playwright, folder / "frames", target)
            FilmedLoop(folder / "demo", env, parts, github, proxy_image, camera).rehearse()
        camera.hold(4)
        camera.save("recording.mp4")
    size = (target / "recording.mp4").stat().st_size
    print(f"{target}/recording.mp4: {camera.seconds:.0f} s, {size:,} bytes")
    if camera.seconds >= LONGEST_S or size > LARGEST_BYTES:
        raise RehearsalError(f"the film must stay under {LONGEST_S} s and {LARGEST_BYTES:,} bytes")


def main() -> int:
    """Check the tools and record; return the exit code."""
    parser = arguments.parser("recording", __doc__, "--folder /tmp/film")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs", help="where to write (default: docs)")
    parser.add_argument("--photos", type=Path, help="as for scripts/loop.py; the film shows some of them")
    options = parser.parse_args()
    tools = "curl", "ffmpeg", "git", "make", "prometheus", "prometheus-alertmanager", "haproxy"
    missing = [tool for tool in tools if not shutil.which(tool)]
    missing += [] if CHROMIUM else ["chromium"]
    if missing:
        sys.exit(f"error: not installed: {', '.join(missing)} (these are the names of Debian's packages)")
    try:
        record(options.folder, options.photos)
    except KeyboardInterrupt:
        return 130
    except (*ERRORS, ValueError, OSError, subprocess.CalledProcessError, Error) as error:
        sys.exit(f"error: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
