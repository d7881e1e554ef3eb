#!/usr/bin/env bash
# Load an image that was built into an OCI archive into docker, so that it can be run and scanned.
# Environment: ARCHIVE, the file; IMAGE, the name and tag that it gets
set -euo pipefail

if ! command -v skopeo >/dev/null; then # arm64 runners lack it
  sudo apt-get -qq update
  sudo apt-get -qq install -y --no-install-recommends skopeo
fi
skopeo copy --quiet "oci-archive:${ARCHIVE:?}" "docker-daemon:${IMAGE:?}"
