#!/usr/bin/env bash
# Tell, as lines for $GITHUB_OUTPUT, under which names and labels CI pushes the image: by commit, and by branch or tag.
# Environment, as Actions sets it: GITHUB_REPOSITORY, GITHUB_SHA, GITHUB_REF_TYPE, GITHUB_REF_NAME, GITHUB_SERVER_URL
set -euo pipefail
export LC_ALL=C

name=ghcr.io/$(tr '[:upper:]' '[:lower:]' <<<"${GITHUB_REPOSITORY:?}")
ref=$(tr -c 'A-Za-z0-9_.-' '-' <<<"${GITHUB_REF_NAME:?}")
ref=${ref%-} # the end of the line
version=$ref
if [ "${GITHUB_REF_TYPE:?}" != tag ] && [ "$ref" != main ]; then
  ref=branch-$ref # none may pass for a commit or a version
fi
tags=("$name:${GITHUB_SHA:?}" "$name:${ref:0:128}")
if [ "$GITHUB_REF_TYPE" = tag ] && [[ $ref != *-* ]]; then # v1.2.3-rc.1 is not the latest
  tags+=("$name:latest")
fi

label=org.opencontainers.image
echo "name=$name"
echo "tags<<END"
printf '%s\n' "${tags[@]}"
echo "END"
echo "labels<<END"
printf "$label.%s\n" "version=$version" "revision=$GITHUB_SHA" "created=$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
  "source=${GITHUB_SERVER_URL:?}/$GITHUB_REPOSITORY"
echo "END"
