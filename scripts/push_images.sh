#!/usr/bin/env bash
# Push the images in images/*.tar, one OCI archive per platform, unchanged, and join them under the tags of this
# commit. Print name and digest of the result as lines for $GITHUB_OUTPUT. Needs skopeo, docker with buildx, a login.
# Environment: what scripts/image_names.sh reads
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

names=$(scripts/image_names.sh)
name=$(sed -n 's/^name=//p' <<<"$names")
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

pushed=()
for archive in images/*.tar; do
  platform=$(basename "$archive" .tar)
  # --all: the SBOM and the provenance too. The digest that was built is the digest that is pushed.
  skopeo copy --quiet --all --preserve-digests --digestfile "$work/digest" \
    "oci-archive:$archive" "docker://$name:${GITHUB_SHA:?}-${platform#image-}" >&2
  pushed+=("$name@$(cat "$work/digest")")
done

tags=()
while IFS= read -r tag; do
  tags+=(--tag "$tag")
done < <(sed '1,/^tags<<END$/d;/^END$/,$d' <<<"$names")
docker buildx imagetools create "${tags[@]}" "${pushed[@]}" >&2
echo "name=$name"
echo "digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "${tags[1]}")"
