#!/usr/bin/env bash
# Compare the parameters, data and metrics in this folder with those of a commit. .github/workflows/compare.yml calls this. It
# trains nothing: the metrics are those in metrics/. Environment:
#   BASE   the commit; by default the first parent, which for a pull request's merge commit is the target branch
# Writes comparison.json.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-.venv/bin/python}
PATH=$(dirname "$python"):$PATH "$python" -m scripts.comparison collect "${BASE:-HEAD^1}" >comparison.json
"$python" -m scripts.comparison render comparison.json | tee -a "${GITHUB_STEP_SUMMARY:-/dev/null}"
