#!/usr/bin/env bash
# Publish models/model.pt as a release, with its attestation and the film of docs/ if they exist. .github/workflows/release.yml
# calls this script. Environment:
#   TAG        tag of the release; GitHub creates it at GITHUB_SHA if it doesn't exist
#   BUNDLE     path of the attestation's Sigstore bundle; optional
#   CANDIDATE  true: publish the model even if it is only a candidate
#   and the variables that `python -m release publish` reads
# Writes tag= and latest=true or false to $GITHUB_OUTPUT. A prerelease and a release of an older version are not the latest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

arguments=(--tag "${TAG:?}" --target "${GITHUB_SHA:-}")
if [ "${CANDIDATE:-}" = true ]; then
  arguments+=(--candidate)
fi
if [ -n "${BUNDLE:-}" ]; then
  # To verify it: gh attestation verify model.pt --bundle model.pt.sigstore.json --owner OWNER
  cp "$BUNDLE" models/model.pt.sigstore.json
  arguments+=(--asset models/model.pt.sigstore.json)
fi
if [ -f docs/recording.mp4 ]; then
  arguments+=(--asset docs/recording.mp4)
fi
python=${PYTHON:-.venv/bin/python}
"$python" -m release publish "${arguments[@]}"
# Inside `[ ]`, a failure of these commands would count as an empty answer.
newest=$("$python" -m release model-url)
own=$("$python" -m release model-url "$TAG")
latest=false
[ "$newest" != "$own" ] || latest=true
printf 'tag=%s\nlatest=%s\n' "$TAG" "$latest" >>"${GITHUB_OUTPUT:-/dev/null}"
