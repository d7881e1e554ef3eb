#!/usr/bin/env bash
# Start the workflow retrain.yml on this branch. monitor.yml and weekly.yml call this. Environment:
#   GITHUB_REPOSITORY, GITHUB_REF_NAME, GH_TOKEN   the token needs actions: write
set -euo pipefail

gh workflow run retrain.yml --repo "${GITHUB_REPOSITORY:?}" --ref "${GITHUB_REF_NAME:?}" --field always=false
