#!/usr/bin/env bash
# Publish models/model.pt as a release, with its attestation and the recording where they are there; .github/workflows/release.yml calls it. Environment:
#   TAG      of the release; made for GITHUB_SHA where it is not there yet
#   BUNDLE   the attestation's Sigstore bundle, if any
#   and what ml.publish reads: GITHUB_REPOSITORY, GITHUB_TOKEN, ARTIFACTORY_*
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

arguments=(--tag "${TAG:?}" --target "${GITHUB_SHA:-}")
if [ -n "${BUNDLE:-}" ]; then
  # The name that says what it is of: gh attestation verify model.pt --bundle model.pt.sigstore.json --owner OWNER
  cp "$BUNDLE" models/model.pt.sigstore.json
  arguments+=(--asset models/model.pt.sigstore.json)
fi
if [ -f docs/recording.mp4 ]; then
  arguments+=(--asset docs/recording.mp4)
fi
"${PYTHON:-.venv/bin/python}" -m ml.publish "${arguments[@]}"
echo "tag=$TAG" >>"${GITHUB_OUTPUT:-/dev/null}"
