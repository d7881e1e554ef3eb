#!/usr/bin/env bash
# Deploy what CI built and what was released, wherever it is set up; .github/workflows/cd.yml calls it. Environment:
#   ACTION      deploy, or rollback: to what served before
#   TARGET      render, cloud-run or docker; auto: those of the first two that are set up, else docker
#   IMAGE       a tag of this repository's image, such as a commit, or a whole reference
#   RELEASE     tag of the release whose model is to serve; empty: the latest, or none where there is none yet
#   GCP_IMAGES  where Cloud Run finds ghcr.io's images: a remote repository of Artifact Registry for it, such as
#               REGION-docker.pkg.dev/PROJECT/ghcr
#   and what scripts/deploy.py reads for each target, and ml.releases: GITHUB_REPOSITORY, GITHUB_TOKEN
# Exit code: the worst of scripts/deploy.py, see there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}

die() {
  echo "error: $1" >&2
  exit 1
}

targets=()
case ${TARGET:-auto} in
auto)
  [ -z "${RENDER_API_KEY:-}${RENDER_SERVICE_ID:-}" ] || targets+=(render)
  [ -z "${CLOUD_RUN_SERVICE:-}${GCP_ACCESS_TOKEN:-}" ] || targets+=(cloud-run)
  [ ${#targets[@]} -gt 0 ] || targets=(docker)
  ;;
render | cloud-run | docker) targets=("$TARGET") ;;
*) die "TARGET must be auto, render, cloud-run or docker" ;;
esac

model=()
case ${ACTION:-deploy} in
rollback) ;;
deploy)
  image=${IMAGE:?}
  [[ $image == */* ]] || image=ghcr.io/$(tr '[:upper:]' '[:lower:]' <<<"${GITHUB_REPOSITORY:?}"):$image
  found=$("$python" -m ml.releases ${RELEASE:+"$RELEASE"})
  url=$(sed -n 's/^MODEL_URL=//p' <<<"$found")
  sha256=$(sed -n 's/^MODEL_SHA256=//p' <<<"$found")
  [ -z "$url" ] || model=(--model-url "$url" --model-sha256 "$sha256")
  ;;
*) die "ACTION must be deploy or rollback" ;;
esac

worst=0
for target in "${targets[@]}"; do
  echo "== $target"
  if [ "${ACTION:-deploy}" = rollback ]; then
    arguments=(--rollback)
  elif [ "$target" = cloud-run ] && [ -n "${GCP_IMAGES:-}" ]; then
    arguments=(--image "${image/#ghcr.io/$GCP_IMAGES}" ${model[@]+"${model[@]}"})
  else
    arguments=(--image "$image" ${model[@]+"${model[@]}"})
  fi
  code=0
  "$python" scripts/deploy.py "$target" "${arguments[@]}" || code=$?
  [ "$code" -le "$worst" ] || worst=$code
done
exit "$worst"
