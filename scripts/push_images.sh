#!/usr/bin/env bash
# Push the images in images/*.tar, one OCI archive per platform, unchanged, and join them under the tags of this
# commit. Print name and digest of the result as lines for $GITHUB_OUTPUT. Needs a login, skopeo, Python, and docker
# with a buildx that has `imagetools create --metadata-file` (of March 2026, or later).
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
# The digest is that of what was pushed here: another workflow run may move the tags in the meantime.
docker buildx imagetools create --metadata-file "$work/pushed.json" "${tags[@]}" "${pushed[@]}" >&2
read_digest='import json; print(json.load(open(0))["containerimage.descriptor"]["digest"])'
digest=$(python3 -c "$read_digest" <"$work/pushed.json")
echo "name=$name"
echo "digest=$digest"
