#!/usr/bin/env bash
# Make the release TAG a prerelease because its deployment failed, so that the release before it is the latest again.
# .github/workflows/release.yml calls this. Environment:
#   TAG, GITHUB_REPOSITORY, GH_TOKEN   the token needs contents: write
set -euo pipefail

gh release edit "${TAG:?}" --repo "${GITHUB_REPOSITORY:?}" --prerelease
echo "::warning::$TAG is a prerelease now, because its deployment failed. See Deploy in docs/RUNBOOK.md."
