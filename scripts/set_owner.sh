#!/usr/bin/env bash
# Set the repository whose images and releases are deployed, and whose runbook alerts and dashboards link to: in
# render.yaml, the manifests under deploy/, and the files under monitoring/.
# usage: set_owner.sh [OWNER/REPO]     default: the repository on GitHub that the remote origin names
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
-h | --help)
  sed -n 's/^# //p' scripts/set_owner.sh
  exit
  ;;
esac

slug=${1:-$(git remote get-url origin 2>/dev/null | sed -nE 's#^.*github\.com[:/]([^/]+/[^/]+)/?$#\1#p')}
slug=${slug%.git}
if ! [[ $slug =~ ^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$ ]]; then
  echo "error: the remote origin is not a repository on GitHub; name one: make owner OWNER=me/repo" >&2
  exit 1
fi
image=$(tr '[:upper:]' '[:lower:]' <<<"$slug") # image names are lower case

files=(-name '*.yaml' -o -path 'monitoring/*' '(' -name '*.yml' -o -name '*.json' -o -name '*.py' ')')
find render.yaml deploy monitoring "${files[@]}" | while IFS= read -r file; do
  changed=$(sed -E -e "s#ghcr\.io/[^/[:space:]]+/[^:@[:space:]]+#ghcr.io/$image#" \
    -e "s#(docker\.pkg\.dev/[^/[:space:]]+/ghcr)/[^/[:space:]]+/[^:@[:space:]]+#\1/$image#" \
    -e "s#github\.com/[^/[:space:]]+/[^/[:space:]]+/(releases|blob/main)/#github.com/$slug/\1/#" "$file")
  [ "$changed" = "$(cat "$file")" ] && continue
  printf '%s\n' "$changed" >"$file"
  echo "$file: $slug"
done
