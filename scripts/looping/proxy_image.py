"""An image of this machine's HAProxy, so that no image has to be pulled."""

import contextlib
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from scripts.common.process import ProcessError


@contextlib.contextmanager
def haproxy_image(engine: str) -> Iterator[str]:
    """Build the image, yield its tag, and remove it.

    Args:
        engine: the command of docker or podman.

    Raises:
        ProcessError: haproxy is not installed, or the image can't be built.
    """
    if not (program := shutil.which("haproxy")):
        raise ProcessError("haproxy is not installed")
    tag = f"haproxy:{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary, "root")
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)  # noqa: S603, S607
        libraries = [word for word in listed.stdout.split() if word.startswith("/")]
        for file, copy in ((program, "usr/bin/haproxy"), *((file, file.lstrip("/")) for file in libraries)):
            (root / copy).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, root / copy)
        (root / "tmp").mkdir()
        Path(temporary, "Dockerfile").write_text(
            "FROM scratch\nCOPY root /\nENV PATH=/usr/bin:/usr/sbin\n", "utf-8"
        )
        command = [engine, "build", "--quiet", "--tag", tag, temporary]
        done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise ProcessError(f"the image of HAProxy can't be built: {done.stderr}")
    try:
        yield tag
    finally:
        subprocess.run([engine, "rmi", "--force", tag], capture_output=True)  # noqa: S603
