#!/usr/bin/env bash
# Run the tests of the service, of scoring and of what they share on another Python than .venv's, in a temporary environment
# without torch. Takes the newest of Python 3.11 to 3.14 that is installed; without one, it says so and succeeds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LC_ALL=C

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

candidates=()
for minor in 14 13 12 11; do
  candidates+=("python3.$minor" "$HOME/.pyenv/versions/3.$minor."*/bin/python3)
done
own=$(version .venv/bin/python)
python=
for candidate in "${candidates[@]}"; do
  case $(version "$candidate" || true) in
  "$own") ;;
  3.1[1-4])
    python=$candidate
    break
    ;;
  esac
done
if [ -z "$python" ]; then
  echo "no other Python of 3.11 to 3.14 is installed: its tests are left out"
  exit 0
fi

echo "testing on Python $(version "$python"): $python"
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
.venv/bin/uv venv --quiet --python "$python" "$environment/venv"
.venv/bin/uv pip install --quiet --python "$environment/venv/bin/python" -r requirements.txt \
  -r requirements-collect.txt -r requirements-heic.txt -r requirements-otel.txt -c requirements-dev.txt \
  cryptography hypothesis jsonschema 'moto[s3,server]' onnx pyarrow pydantic pytest pytest-timeout pytest-xdist \
  ruamel-yaml schemathesis tqdm
folders=(tests/app tests/ml/model tests/ml/scoring)
# Left out: the engines' tests and others that need torch to build models, those in a browser, which test no Python, and
# those that need Ray or what dashboards install.
ignored=(--ignore=tests/app/inference)
while IFS= read -r file; do
  ignored+=("--ignore=$file")
done < <(grep -rlE 'playwright|chromium|import torch|needs_ray|monitoring\.dashboards' "${folders[@]}" --include='test_*.py')
"$environment/venv/bin/python" -m pytest --quiet --numprocesses 2 --dist loadfile -m "not slow" \
  "${ignored[@]}" "${folders[@]}"
