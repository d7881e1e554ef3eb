#!/usr/bin/env bash
# Comment on a pull request with the comparison that compare.sh made; a comment of an earlier run is replaced.
# .github/workflows/comment.yml calls this. No code of the pull request runs here. Environment:
#   GITHUB_REPOSITORY, GH_TOKEN   the token needs pull-requests: write
#   HEAD_OWNER, HEAD_BRANCH, HEAD_SHA   owner of the repository, branch and commit that the pull request would merge. They
#     identify it: for forks, GitHub does not tell the number of the pull request.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

number=$(gh api --method GET "repos/${GITHUB_REPOSITORY:?}/pulls" --raw-field state=open \
  --raw-field head="${HEAD_OWNER:?}:${HEAD_BRANCH:?}" --jq ".[] | select(.head.sha == \"${HEAD_SHA:?}\") | .number" | head -n 1)
if [ -z "$number" ]; then
  echo "no open pull request has this commit: it was closed, or another commit followed"
  exit 0
fi
python3 scripts/comparison.py render comparison/comparison.json >comment.md
gh pr comment "$number" --repo "$GITHUB_REPOSITORY" --edit-last --create-if-none --body-file comment.md
