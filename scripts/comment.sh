#!/usr/bin/env bash
# Write the comparison that compare.sh made as a comment on its pull request, or into the comment of the last time.
# .github/workflows/comment.yml calls this. It runs nothing of the pull request. Environment:
#   GITHUB_REPOSITORY, GH_TOKEN   the token needs pull-requests: write
#   HEAD_OWNER, HEAD_BRANCH, HEAD_SHA   what the pull request wants to merge; forks' runs don't say which request it is
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

number=$(gh api --method GET "repos/${GITHUB_REPOSITORY:?}/pulls" --field state=open \
  --field head="${HEAD_OWNER:?}:${HEAD_BRANCH:?}" --jq ".[] | select(.head.sha == \"${HEAD_SHA:?}\") | .number" | head -n 1)
if [ -z "$number" ]; then
  echo "no open pull request has this commit: it was closed, or another commit followed"
  exit 0
fi
python3 scripts/comparison.py render comparison/comparison.json >comment.md
gh pr comment "$number" --repo "$GITHUB_REPOSITORY" --edit-last --create-if-none --body-file comment.md
