#!/usr/bin/env bash
# Have the live service answer a labelled set of photos; .github/workflows/monitor.yml calls it daily. Environment:
#   SERVICE_URL             of the service; API_KEY, where it has API_KEYS
#   MONITOR_DATA            folder with one subfolder a class, .zip of one, or its URL; tests/photos by default
#   MONITOR_MIN_ACCURACY    below which it fails; 0.9 by default
#   MLFLOW_TRACKING_URI     where the run is logged, with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD;
#                           without it none is
#   MONITOR_OUT             what it writes; predictions_batch.json by default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${SERVICE_URL:-}" ]; then
  echo "error: SERVICE_URL is not set: which service?" >&2
  exit 1
fi
if [ -z "${MONITOR_DATA:-}" ]; then
  # The photos that the repository has, each named after its class.
  MONITOR_DATA=$(mktemp -d)
  trap 'rm -r "$MONITOR_DATA"' EXIT
  for photo in tests/photos/*.jpg; do
    mkdir "$MONITOR_DATA/$(basename "$photo" .jpg)"
    cp "$photo" "$MONITOR_DATA/$(basename "$photo" .jpg)/"
  done
fi
arguments=(--data "$MONITOR_DATA" --min-accuracy "${MONITOR_MIN_ACCURACY:-0.9}")
arguments+=(--out "${MONITOR_OUT:-predictions_batch.json}")
[ -n "${MLFLOW_TRACKING_URI:-}" ] || arguments+=(--no-mlflow)

summary=${GITHUB_STEP_SUMMARY:-/dev/null}
echo '```' >>"$summary"
code=0
"${PYTHON:-.venv/bin/python}" scripts/collect_predictions.py "$SERVICE_URL" "${arguments[@]}" | tee -a "$summary" || code=$?
echo '```' >>"$summary"
exit "$code"
