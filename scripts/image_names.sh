#!/usr/bin/env bash
# Print the tags (commit; branch or git tag) and labels with which CI pushes the image, as lines for $GITHUB_OUTPUT.
# Environment, set by GitHub Actions: GITHUB_REPOSITORY, GITHUB_SHA, GITHUB_REF_TYPE, GITHUB_REF_NAME, GITHUB_SERVER_URL
set -euo pipefail
export LC_ALL=C

name=ghcr.io/$(tr '[:upper:]' '[:lower:]' <<<"${GITHUB_REPOSITORY:?}")
ref=$(tr -c 'A-Za-z0-9_.-' '-' <<<"${GITHUB_REF_NAME:?}")
ref=${ref%-} # the newline
version=$ref
if [ "${GITHUB_REF_TYPE:?}" != tag ] && [ "$ref" != main ]; then
  ref=branch-$ref # a branch must not look like a commit or a version
fi
tags=("$name:${GITHUB_SHA:?}" "$name:${ref:0:128}")

label=org.opencontainers.image
echo "name=$name"
echo "tags<<END"
printf '%s\n' "${tags[@]}"
echo "END"
echo "labels<<END"
printf "$label.%s\n" "version=$version" "revision=$GITHUB_SHA" "created=$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
  "source=${GITHUB_SERVER_URL:?}/$GITHUB_REPOSITORY"
echo "END"
