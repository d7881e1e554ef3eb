#!/usr/bin/env bash
# Install the programs that tests run and that don't come from the package index, from Debian's or Ubuntu's packages.
# Programs that are already there are left alone.
set -euo pipefail

# On Debian, Chromium without a window is a package of its own, which takes half of the CPU time.
browser=chromium
# shellcheck source=/dev/null
[ ! -r /etc/os-release ] || . /etc/os-release
[ "${ID:-}" != debian ] || browser=chromium-headless-shell

# command:package. A browser, a load generator, a load balancer, a gateway, the init process of podman's pods, what makes the
# film, kubectl kustomize, monitoring.
tools=(
  "$browser:$browser" wrk:wrk haproxy:haproxy nginx:nginx-light catatonit:catatonit ffmpeg:ffmpeg kubectl:kubernetes-client
  prometheus:prometheus prometheus-alertmanager:prometheus-alertmanager
  prometheus-pushgateway:prometheus-pushgateway
)

missing=()
for tool in "${tools[@]}"; do
  command -v "${tool%%:*}" >/dev/null || missing+=("${tool#*:}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

echo "== install ${missing[*]}"
root=()
[ "$(id -u)" = 0 ] || root=(sudo)
log=$(mktemp)
if ! {
  "${root[@]}" apt-get -qq update &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}"
} >"$log" 2>&1; then
  cat "$log" >&2
  echo "error: ${missing[*]} could not be installed" >&2
  exit 1
fi
