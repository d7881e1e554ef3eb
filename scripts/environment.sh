#!/bin/sh
# Install requirements files into .venv, the environment of make's targets, which is created if it isn't there.
#   scripts/environment.sh requirements.txt requirements-release.txt
# If anything fails, or if an earlier run was killed, .venv is removed, so that the next run starts clean.
# Environment:
#   PYTHON             the interpreter; by default the first of Python 3.11 to 3.14 that is found
#   UV_TORCH_BACKEND   cpu: PyTorch's builds without CUDA, from PyTorch's own index
# POSIX sh: runs under dash, macOS' bash 3.2 and Windows' git-bash.
set -eu
unset CDPATH
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1

die() {
  echo "error: $*" >&2
  exit 1
}

has_uv() { uv --version >/dev/null 2>&1; }

# probe PYTHON: sets interpreter to its path, or else unusable to the reason why it can't be used. It is run and not
# only looked up: pyenv's shims and Windows' link to its store have the name of a Python that isn't there.
probe() {
  answer=$("$1" -c '
import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    sys.exit(0)
try:
    import ensurepip, venv
    print("complete", sys.executable)
except ImportError:
    print("bare", sys.executable)
' 2>/dev/null) || answer=
  case $answer in
  "complete "*) interpreter=${answer#complete } create=venv ;;
  "bare "*) if has_uv; then interpreter=${answer#bare } create=uv; else unusable=${answer#bare }; fi ;;
  esac
}

find_python() {
  interpreter='' unusable=''
  if [ -n "${PYTHON:-}" ]; then
    probe "$PYTHON"
    wrong="PYTHON=$PYTHON is not Python 3.11 to 3.14"
  else
    for name in python3.11 python3.12 python3.13 python3.14 python3 python py; do
      [ -n "$interpreter" ] || probe "$name"
    done
    wrong="no Python 3.11 to 3.14 found: install one (Debian, Ubuntu: apt install python3 python3-venv; macOS:\
 brew install python@3.13; Windows: winget install Python.Python.3.13), or name it: make PYTHON=/path/to/python"
  fi
  [ -n "$interpreter" ] || [ -z "$unusable" ] ||
    die "$unusable has no venv and ensurepip modules: install them (Debian, Ubuntu: apt install python3-venv)"
  [ -n "$interpreter" ] || die "$wrong"
}

# Where the environment has its programs.
programs() { if [ -d .venv/Scripts ]; then echo .venv/Scripts; else echo .venv/bin; fi; }

# While .venv/.installing is there, it holds the id of the process that installs.
if [ -f .venv/.installing ]; then
  installer=$(cat .venv/.installing)
  if kill -0 "$installer" 2>/dev/null; then
    die "process $installer is installing into .venv: wait for it; if there is no such process, run make clean"
  fi
  rm -rf .venv
elif [ -e .venv ] && ! "$(programs)/python" -c '' 2>/dev/null; then
  rm -rf .venv # its interpreter is gone, as after an upgrade of the system
fi

[ -e .venv ] || find_python
remove() {
  rm -rf .venv
  echo "error: .venv could not be completed and was removed: run make again" >&2
}
trap remove EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e .venv ]; then
  echo "Creating .venv with $interpreter"
  rm -f .venv # a link that leads nowhere
  mkdir .venv
  echo $$ >.venv/.installing
  if [ "$create" = venv ]; then
    "$interpreter" -m venv .venv
  else
    uv venv --quiet --allow-existing --python "$interpreter" .venv
  fi
fi
echo $$ >.venv/.installing
python=$(programs)/python

# uv doesn't read pip's settings: hand over the index and the certificates that pip is set to.
pip_setting() { "$python" -m pip config list 2>/dev/null | sed -n "s/^.*\.$1='\(.*\)'.*$/\1/p" | tail -n 1; }
index=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-$(pip_setting index-url)}}}
[ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
certificates=${SSL_CERT_FILE:-$(pip_setting cert)}
[ -z "$certificates" ] || export SSL_CERT_FILE="$certificates"
# The system's certificates, which pip uses too, may contain that of a company's proxy. Without any, uv has its own.
case $(uname) in
Linux) stores="/etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem" ;;
*) stores=. ;; # no file
esac
for store in $stores; do
  [ ! -e "$store" ] || export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
done

if has_uv; then
  uv=uv
else
  "$python" -m pip install --quiet -r requirements-uv.txt
  uv=$(programs)/uv
fi
echo "Installing $*"
for file in "$@"; do
  set -- "$@" -r "$file"
  shift
done
"$uv" pip install --quiet --python "$python" "$@"
rm .venv/.installing
trap - EXIT
