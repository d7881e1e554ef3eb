#!/usr/bin/env bash
# Send labelled photos to the live service and check its accuracy; .github/workflows/monitor.yml runs this daily.
# Environment:
#   SERVICE_URL             URL of the service; API_KEY if the service requires one
#   MONITOR_DATA            folder with one subfolder per class, a .zip file of one, or its URL; default: the example
#                           photos that the service offers
#   MONITOR_MIN_ACCURACY    accuracy below which it fails; default: 0.9
#   MLFLOW_TRACKING_URI     where the run is logged, with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD;
#                           default: no run is logged
#   MONITOR_OUT             file that it writes; default: predictions_batch.json
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${SERVICE_URL:-}" ]; then
  echo "error: set SERVICE_URL to the URL of the service" >&2
  exit 1
fi
# Send no feedback: it would outweigh that of users in the live accuracy that an alert watches.
arguments=(--no-feedback --min-accuracy "${MONITOR_MIN_ACCURACY:-0.9}" --out "${MONITOR_OUT:-predictions_batch.json}")
[ -z "${MONITOR_DATA:-}" ] || arguments+=(--data "$MONITOR_DATA")
[ -n "${MLFLOW_TRACKING_URI:-}" ] || arguments+=(--no-mlflow)

summary=${GITHUB_STEP_SUMMARY:-/dev/null}
echo '```' >>"$summary"
code=0
# 3: the accuracy is below that of the test photos. The workflow then starts retrain.yml.
"${PYTHON:-.venv/bin/python}" -m scripts.collect_predictions "$SERVICE_URL" "${arguments[@]}" | tee -a "$summary" || code=$?
echo '```' >>"$summary"
[ "$code" != 3 ] || echo worse=true >>"${GITHUB_OUTPUT:-/dev/null}"
exit "$code"
