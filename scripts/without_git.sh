#!/bin/sh
# Set DVC up for a folder that is not a Git repository, such as an unpacked .zip of this project. Once the folder is a
# repository, undo that.
set -eu
cd "$(dirname "$0")/.."
config=.dvc/config.local

if git rev-parse --git-dir >/dev/null 2>&1; then
  if grep -qs no_scm "$config"; then
    dvc config --local --unset core.no_scm
  fi
else
  if ! grep -qs no_scm "$config"; then
    dvc config --local core.no_scm true
  fi
  echo "note: this is not a Git repository, so the model will not name the commit of its code, and DVC keeps no history." >&2
  echo "To change that: git init && git add . && git commit -m Start" >&2
fi
