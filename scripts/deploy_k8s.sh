#!/usr/bin/env bash
# Deploy to Kubernetes: apply an overlay, wait for the rollout, smoke-test it, and go back where that fails.
# usage: deploy_k8s.sh                                        to kind, which is set up, the image that make image built
#        deploy_k8s.sh --context NAME --overlay production --image IMAGE [--model-url URL [--model-sha256 SHA]]
#   --image IMAGE     for kind an image of this machine, cats-vs-dogs; else one that the cluster can pull
#   --cluster NAME    of kind, cats-vs-dogs
#   --overlay NAME    a folder of deploy/k8s/overlays, kind; or a path
#   --timeout SECONDS for a rollout, 300
# Environment: CONTAINER (docker or podman), and what scripts/smoke_test.sh reads, as API_KEY.
# Exit code 0: what was asked for serves. 1: it doesn't, and what served before does again, or nothing was changed.
# 2: the rollback failed too, or there was nothing to go back to.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  echo "error: $1; see the head of scripts/deploy_k8s.sh" >&2
  exit 1
}

context='' cluster=cats-vs-dogs overlay=kind image=cats-vs-dogs timeout=300 model_url='' model_sha256=''
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || usage "$1 needs a value"
  case $1 in
  --context) context=$2 ;;
  --cluster) cluster=$2 ;;
  --overlay) overlay=$2 ;;
  --image) image=$2 ;;
  --timeout) timeout=$2 ;;
  --model-url) model_url=$2 ;;
  --model-sha256) model_sha256=$2 ;;
  *) usage "$1 is unknown" ;;
  esac
  shift 2
done
[[ $timeout =~ ^[0-9]{1,5}$ ]] || usage "--timeout: a whole number of seconds"
[[ $image =~ ^[A-Za-z0-9][A-Za-z0-9._:/@-]*$ ]] || usage "--image is no name of an image"
[[ $model_url =~ ^((https?|file)://[^[:space:]\"\']+)?$ ]] || usage "--model-url is no URL"
[[ $model_sha256 =~ ^([0-9a-fA-F]{64})?$ ]] || usage "--model-sha256: 64 hexadecimal digits"
case $overlay in */*) ;; *) overlay=deploy/k8s/overlays/$overlay ;; esac
[ -f "$overlay/kustomization.yaml" ] || usage "$overlay/kustomization.yaml is not there"
for tool in kubectl curl; do
  command -v "$tool" >/dev/null || usage "$tool is not installed"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/deploy.XXXXXX")
layer=$(mktemp -d "$overlay.XXXXXX") # beside the overlay: kustomize knows relative paths only
forward=''
# shellcheck disable=SC2329  # called by trap
finish() {
  [ -z "$forward" ] || kill "$forward" 2>/dev/null || true
  rm -rf "$work" "$layer"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

# Into kind under a name of its content, so that a new image is a new name, and rolls out.
load_into_kind() {
  local engine=${CONTAINER:-} id
  [ -n "$engine" ] || { docker info >/dev/null 2>&1 && engine=docker || engine=podman; }
  id=$("$engine" image inspect --format '{{.Id}}' "$image") || usage "$image is not on this machine: make image"
  id=${id#sha256:}
  [ "$engine" = docker ] || export KIND_EXPERIMENTAL_PROVIDER=$engine
  if ! kind get clusters 2>/dev/null | grep -qxF "$cluster"; then
    kind create cluster --name "$cluster" --wait 180s
  fi
  "$engine" tag "$image" "localhost/cats-vs-dogs:${id:0:12}"
  image=localhost/cats-vs-dogs:${id:0:12}
  "$engine" save --output "$work/image.tar" "$image"
  kind load image-archive "$work/image.tar" --name "$cluster"
  context=kind-$cluster
}

k() { kubectl --context "$context" --namespace cats-vs-dogs "$@"; }

manifests() {
  {
    echo "resources: [../${overlay##*/}]"
    echo "patches:"
    echo "  - target: {kind: Deployment}"
    echo "    patch: |"
    echo "      - {op: replace, path: /spec/template/spec/containers/0/image, value: '$image'}"
    if [ -n "$model_url" ]; then
      echo "configMapGenerator:"
      echo "  - name: cats-vs-dogs"
      echo "    namespace: cats-vs-dogs"
      echo "    behavior: merge"
      echo "    literals: ['MODEL_URL=$model_url', 'MODEL_SHA256=$model_sha256']"
    fi
  } >"$layer/kustomization.yaml"
  kubectl kustomize "$layer"
}

rolled_out() { k rollout status deployment/cats-vs-dogs --timeout "${timeout}s"; }

# Through a port of loopback, to one of the ready pods.
smoke_test() {
  local url='' code=0
  k port-forward service/cats-vs-dogs :80 --address 127.0.0.1 >"$work/forward" 2>&1 &
  forward=$!
  for _ in $(seq 100); do
    url=$(sed -nE 's#^Forwarding from (127\.0\.0\.1:[0-9]+) .*#http://\1#p' "$work/forward")
    if [ -n "$url" ] || ! kill -0 "$forward" 2>/dev/null; then break; fi
    sleep 0.1
  done
  if [ -n "$url" ]; then
    scripts/smoke_test.sh "$url" || code=1
  else
    echo "error: no way to the service: $(tail -n 1 "$work/forward")" >&2
    code=1
  fi
  kill "$forward" 2>/dev/null || true
  wait "$forward" 2>/dev/null || true
  forward=''
  return "$code"
}

what_went_wrong() {
  {
    k get pods --output wide
    k get events --field-selector type=Warning --sort-by lastTimestamp | tail -n 10
    k logs deployment/cats-vs-dogs --all-containers --tail 10
  } >&2 || true
}

revision() {
  local path='{.metadata.annotations.deployment\.kubernetes\.io/revision}'
  k get deployment/cats-vs-dogs --ignore-not-found --output "jsonpath=$path"
}

[ -n "$context" ] || load_into_kind
manifests >"$work/manifests.yaml"
before=$(revision)
echo "== deploy $image to $context"
if k apply --filename "$work/manifests.yaml" && rolled_out &&
  EXPECTED_SHA256=${model_sha256:-${EXPECTED_SHA256:-}} smoke_test; then
  echo "== $image serves"
  exit 0
fi
what_went_wrong
after=$(revision)
if [ "$after" = "$before" ]; then
  echo "FAILED: $image is not deployed; revision ${before:-0} is left as it was" >&2
  exit 1
fi
if [ -z "$before" ]; then
  echo "FAILED: $image doesn't serve, and nothing did before" >&2
  exit 2
fi
echo "== back to revision $before" >&2
if k rollout undo deployment/cats-vs-dogs --to-revision "$before" && rolled_out &&
  EXPECTED_SHA256='' EXPECTED_VERSION='' smoke_test; then
  echo "FAILED: $image doesn't serve; revision $before does again" >&2
  exit 1
fi
what_went_wrong
echo "FAILED: $image doesn't serve, and neither does revision $before" >&2
exit 2
