#!/usr/bin/env bash
# Start `make serve` in the background, smoke-test it and stop it: on Linux, macOS, and Windows in git-bash.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PORT=${PORT:-8080}

log=$(mktemp)
make serve >"$log" 2>&1 &
server=$!
stop() {
  kill "$server" 2>/dev/null || true
  cat "$log"
}
trap stop EXIT
# `make serve` installs before it serves.
WAIT_SECONDS=${WAIT_SECONDS:-300} scripts/smoke_test.sh "http://127.0.0.1:$PORT"
