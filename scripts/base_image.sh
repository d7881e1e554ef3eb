#!/usr/bin/env bash
# Print the base image of the images that CI builds, by digest, as a line for $GITHUB_OUTPUT: base=NAME:TAG@sha256:...
# To build such an image: make image BUILD_FLAGS="--build-arg BASE=..."
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

base=$(sed -n 's/^FROM //p' .github/base/Dockerfile)
if ! [[ $base =~ ^[a-z0-9./-]+:[a-zA-Z0-9._-]+@sha256:[0-9a-f]{64}$ ]]; then
  echo "error: .github/base/Dockerfile must have one line FROM NAME:TAG@sha256:DIGEST" >&2
  exit 1
fi
echo "base=$base"
