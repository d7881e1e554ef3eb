#!/usr/bin/env bash
# Download photos and models from the DVC remote, if there is one, so that dvc repro runs only the stages that changed.
# Without a remote, dvc repro ingests the photos again. Credentials come from the environment (AWS_ACCESS_KEY_ID, ...).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PWD/.venv/bin:$PATH

remotes=$(dvc remote list)
if [ -z "$remotes" ]; then
  echo "no DVC remote: dvc repro will ingest the photos from ingest.source in params.yaml"
elif [ ! -f dvc.lock ]; then
  echo "no dvc.lock yet: there is nothing to download from the DVC remote"
else
  dvc pull --allow-missing
fi
