#!/usr/bin/env bash
# Fetch photos and models from the DVC remote, where one is named: dvc repro then does only what has changed.
# Without one it ingests the photos anew. Credentials come from the environment, as AWS_ACCESS_KEY_ID.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PWD/.venv/bin:$PATH

remotes=$(dvc remote list)
if [ -z "$remotes" ]; then
  echo "no DVC remote: the photos come from ingest.source in params.yaml"
elif [ ! -f dvc.lock ]; then
  echo "no dvc.lock yet: nothing to fetch from the DVC remote"
else
  dvc pull --allow-missing
fi
