#!/usr/bin/env bash
# Pin what pyproject.toml asks for in requirements*.txt, for Python 3.11 to 3.14 on Linux, macOS (arm64) and Windows.
#   scripts/pin_requirements.sh              changes only the pins that pyproject.toml no longer allows
#   scripts/pin_requirements.sh --upgrade    takes the newest versions
# Environment: UV is the uv to use, .venv/bin/uv by default.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# pin FILE [uv's options]: writes the file; its present pins stay unless --upgrade says otherwise.
upgrade=("$@")
pin() {
  local file=$1
  shift
  "${UV:-.venv/bin/uv}" pip compile --quiet --universal --python-version 3.11 --annotation-style line \
    --custom-compile-command "make requirements" ${upgrade[@]+"${upgrade[@]}"} "$@" --output-file "$file" >/dev/null
}

# Each file fits the ones before it. Hashes protect the image and the jobs that may release or deploy. The files with
# torch have none: PyTorch's CPU builds bear the same versions with other hashes.
pin requirements.txt --generate-hashes pyproject.toml
pin requirements-heic.txt --generate-hashes --group heic -c requirements.txt
pin requirements-torch.txt --group torch -c requirements.txt pyproject.toml
pin requirements-train.txt --group train -c requirements-torch.txt pyproject.toml
pin requirements-collect.txt --generate-hashes --group collect -c requirements-train.txt
pin requirements-otel.txt --generate-hashes --group otel -c requirements-train.txt
pin requirements-release.txt --generate-hashes --group release -c requirements-train.txt
pin requirements-deploy.txt --generate-hashes --group deploy -c requirements-train.txt -c requirements-release.txt
pin requirements-scale.txt --generate-hashes --group scale -c requirements-train.txt
pin requirements-dev.txt --group dev -c requirements-train.txt -c requirements-release.txt \
  -c requirements-deploy.txt -c requirements-collect.txt -c requirements-otel.txt -c requirements-scale.txt pyproject.toml
pin requirements-uv.txt --generate-hashes --group uv -c requirements-dev.txt

# A CPU build of torch needs none of CUDA's packages, so they aren't named; other builds pin their own.
for file in requirements-torch.txt requirements-train.txt requirements-dev.txt; do
  grep -Ev '^((cuda|nvidia)[a-z0-9-]*|triton)==' "$file" >"$file.new"
  mv "$file.new" "$file"
done
