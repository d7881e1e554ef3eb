#!/usr/bin/env bash
# Decide whether to train again, and write due= and tag= to $GITHUB_OUTPUT. .github/workflows/retrain.yml calls this script.
# Environment:
#   EVENT            name of the event that started the workflow; push: photos were added
#   ALWAYS           true: train even if nothing has changed since the latest release
#   RETRAIN_PHOTOS   number of newly reviewed photos whose push starts training; default: 200
#   and the variables that `python -m release due` reads
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

arguments=()
[ "${ALWAYS:-}" != true ] || arguments+=(--always)
[ "${EVENT:-}" != push ] || arguments+=(--new-photos "${RETRAIN_PHOTOS:-200}")
"${PYTHON:-.venv/bin/python}" -m release due ${arguments[@]+"${arguments[@]}"} | tee -a "${GITHUB_OUTPUT:-/dev/null}"
