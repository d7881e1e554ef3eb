"""The scripts that hand CI's images on: what was built, and tested, is what is pushed."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.helpers.paths import ROOT

SHA = "0123456789abcdef0123456789abcdef01234567"
ENVIRONMENT = {
    "GITHUB_REPOSITORY": "Ann-Lee/Pets", "GITHUB_SHA": SHA, "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1.2.3",
}  # fmt: skip
SKOPEO = """#!/bin/sh
echo "skopeo $*" >>"$CALLS"
while [ $# -gt 0 ]; do
  [ "$1" != --digestfile ] || printf 'sha256:of-%s' "$(basename "$3" .tar)" >"$2"
  shift
done
"""
DOCKER = """#!/bin/sh
echo "docker $*" >>"$CALLS"
[ "$3" != inspect ] || echo sha256:of-both
"""


def test_the_archives_are_pushed_unchanged_and_joined(tmp_path: Path) -> None:
    project, calls = tmp_path / "a project", tmp_path / "calls"
    (project / "scripts").mkdir(parents=True)
    (project / "images").mkdir()
    for script in ("push_images.sh", "image_names.sh"):
        shutil.copy(ROOT / "scripts" / script, project / "scripts")
    for platform in ("amd64", "arm64"):
        (project / "images" / f"image-{platform}.tar").touch()
    for tool, text in (("skopeo", SKOPEO), ("docker", DOCKER)):
        (tmp_path / tool).write_text(text)
        (tmp_path / tool).chmod(0o755)
    done = subprocess.run(
        [project / "scripts" / "push_images.sh"], capture_output=True, text=True, timeout=60,
        env=ENVIRONMENT | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(calls)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    name = "ghcr.io/ann-lee/pets"
    assert done.stdout.splitlines() == [f"name={name}", "digest=sha256:of-both"]
    *copies, create, inspect = calls.read_text().splitlines()
    for platform, copy in zip(("amd64", "arm64"), copies, strict=True):
        assert copy.startswith("skopeo copy --quiet --all --preserve-digests --digestfile ")
        assert copy.endswith(f"oci-archive:images/image-{platform}.tar docker://{name}:{SHA}-{platform}")
    tags = " ".join(f"--tag {name}:{tag}" for tag in (SHA, "v1.2.3", "latest"))
    platforms = " ".join(f"{name}@sha256:of-image-{platform}" for platform in ("amd64", "arm64"))
    assert create == f"docker buildx imagetools create {tags} {platforms}"
    assert inspect.startswith("docker buildx imagetools inspect --format")
    assert inspect.endswith(f"{name}:{SHA}")
