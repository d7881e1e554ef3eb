#!/usr/bin/env bash
# Check that a live service works: it is ready, classifies a cat and a dog correctly, and rejects files that are not
# photos.
#
# usage: scripts/smoke_test.sh URL
# example: scripts/smoke_test.sh https://cats-vs-dogs.example.org
#
# Exit code 0 if all checks passed, else 1. Environment variables, all optional:
#   WAIT_SECONDS      how long the service may take to get ready (default: 120); a sleeping free instance needs 60 or
#                     more
#   API_KEY           sent as X-API-Key with each photo; then the service must also reject a wrong key
#   METRICS_TOKEN     sent as Bearer token to /metrics
#   EXPECTED_VERSION  version that /model must report
#   EXPECTED_SHA256   SHA-256 of the model's file that /model must report
#   MIN_PROBABILITY   least probability of the right class (default: 0.6); a model that guesses is sometimes right
#
# It needs bash (3.2 or later), curl, and the POSIX tools awk, head, sed and tr; neither jq nor Python.
set -u
export LC_ALL=C
unset CDPATH

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Print what others have sent on one line and without control characters, which logs and terminals may obey.
clean() { printf '%s' "$1" | tr '\n\t' '  ' | tr -cd '[:print:]' | head -c 200; }

case ${1:-} in
-h | --help)
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit
  ;;
esac
[ $# = 1 ] || die "usage: smoke_test.sh URL (--help describes the environment variables)"
url=$1
well_formed='^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^][:space:][:cntrl:]?#@[]*)?$'
[[ $url =~ ^https?:// ]] || die "the URL must start with http:// or https://"
[[ $url =~ $well_formed ]] || die "the URL must be like https://host:port/path, with no user, query or fragment"
while [[ $url == */ ]]; do url=${url%/}; done

wait_seconds=${WAIT_SECONDS:-120}
[[ $wait_seconds =~ ^[0-9]{1,5}$ ]] || die "WAIT_SECONDS must be a whole number"
[[ ${MIN_PROBABILITY:=0.6} =~ ^(0?\.[0-9]+|[01])$ ]] || die "MIN_PROBABILITY must be a number from 0 to 1"
wait_seconds=$((10#$wait_seconds))
for name in API_KEY METRICS_TOKEN; do
  [[ ${!name:-} == *[[:cntrl:]]* ]] && die "$name must not contain control characters"
done
command -v curl >/dev/null || die "curl is not installed"

cd "$(dirname "${BASH_SOURCE[0]}")/../tests/photos" || die "the folder tests/photos is missing"
work=$(mktemp -d "${TMPDIR:-/tmp}/smoke.XXXXXX") || die "cannot create a temporary folder"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# ask PATH [curl's options]: send a request; set status (000: no answer), ms, kind (content type), body, and problem
# (why there is no answer). The header in `secret` goes through a pipe, because the process list shows all arguments.
limit=30
secret=
ask() {
  local path=$1 output time fraction options
  shift
  options=(--disable --globoff --silent --show-error --connect-timeout 10 --max-time "$limit" --max-filesize 4000000)
  options+=(--dump-header "$work/head" --output "$work/body" --write-out '%{http_code} %{time_total} %{content_type}')
  [ -z "$secret" ] || options+=(--header @-)
  : >"$work/head"
  : >"$work/body"
  output=$(printf '%s\n' "$secret" | curl "${options[@]}" "$@" "$url$path" 2>"$work/problem")
  read -r status time kind <<<"$output"
  fraction=${time#*.}000
  ms=$((10#${time%%.*} * 1000 + 10#${fraction:0:3}))
  body=$(tr -d '\0' <"$work/body")
  problem=$(head -n 1 "$work/problem")
  problem=${problem#curl: }
}

# answered STATUS [VARIABLE]: succeed if that was the status of the answer; otherwise set why. VARIABLE: of the key.
answered() {
  [ "$status" != "$1" ] || return 0
  case $status in
  000) why=${problem:-no answer} ;;
  401) why="answers 401: is ${2:-API_KEY} set and right?" ;;
  *) why="answers $status instead of $1: $body" ;;
  esac
  return 1
}

# because WHY: fail for that reason.
because() {
  why=$1
  return 1
}

# field NAME: print the string of that name in the body, a JSON object.
field() {
  local pattern="\"$1\"[[:space:]]*:[[:space:]]*\"([^\"]*)\""
  [[ $body =~ $pattern ]] && printf '%s' "${BASH_REMATCH[1]}"
}

wait_until_ready() {
  local end=$((SECONDS + wait_seconds)) left reported=-5
  while :; do
    left=$((end - SECONDS))
    limit=$((left < 1 ? 1 : left > 60 ? 60 : left)) # a platform may hold the request while it starts the service
    ask /ready
    limit=30
    if answered 200; then
      [ "$(field status)" != ready ] || return 0 # otherwise it may be a proxy's page
      why="answers 200, but not as the service does: $body"
    elif [[ $status == 30[18] ]]; then
      because "redirects; use the URL that curl -sI $url/ready shows"
      return
    fi
    [ "$SECONDS" -lt "$end" ] || return 1
    if [ $((SECONDS - reported)) -ge 5 ]; then
      reported=$SECONDS
      printf 'waiting, %s of %s s: /ready %s\n' "$((SECONDS - end + wait_seconds))" "$wait_seconds" "$(clean "$why")" >&2
    fi
    sleep 1
  done
}

is_ready() {
  local since=$SECONDS
  wait_until_ready || because "not ready after $((SECONDS - since)) s: $why" || return 1
  detail="after $((SECONDS - since)) s"
}

is_healthy() {
  ask /health
  answered 200 || return 1
  [ "$(field status)" = ok ] || because "answers $body"
}

echoes_request_id() {
  local id="smoke-$$-$RANDOM" echoed
  ask /health --header "X-Request-ID: $id"
  answered 200 || return 1
  echoed=$(awk 'tolower($1) == "x-request-id:" { print $2 }' "$work/head" | tr -d '\r')
  [ "$echoed" = "$id" ] || because "is returned as '$echoed' instead of '$id'"
}

is_the_model() {
  local version sha256 expected
  ask /model
  answered 200 || return 1
  version=$(field version)
  sha256=$(field sha256)
  detail="$version $(field arch) sha256 ${sha256:0:12}"
  expected=$(printf '%s' "${EXPECTED_SHA256:-}" | tr '[:upper:]' '[:lower:]')
  if [ -z "$version" ] || [ -z "$sha256" ]; then
    because "does not report version and sha256: $body"
  elif [ "${EXPECTED_VERSION:-$version}" != "$version" ]; then
    because "has version $version instead of $EXPECTED_VERSION"
  elif [ "${expected:-$sha256}" != "$sha256" ]; then
    because "has SHA-256 $sha256 instead of $expected"
  fi
}

# unsound LABEL: read a JSON object of probabilities; print what is wrong with them, if anything.
unsound() {
  awk -v label="$1" -v least="$MIN_PROBABILITY" '
    { text = text $0 " " }
    END {
      count = split(text, pairs, ",")
      for (i = 1; i <= count; i++) {
        if (!match(pairs[i], /"[ \t]*:/)) { print "not an object of probabilities"; exit }
        name = substr(pairs[i], 1, RSTART - 1)
        value = substr(pairs[i], RSTART + RLENGTH)
        sub(/^[ \t]*"/, "", name)
        gsub(/[ \t]/, "", value)
        if (value !~ /^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$/ || value + 0 > 1) { print value " is not a probability"; exit }
        sum += value
        if (name == label) own = value + 0
        else if (value + 0 > other) other = value + 0
      }
      if (sum < 0.999 || sum > 1.001) print "the probabilities sum to " sum
      else if (own < other) print "another class is more probable"
      else if (own < least + 0) print "its probability is only " own
    }'
}

# sees LABEL [curl's options]: succeed if the photo that the options send is classified as this label.
predictions=0
sees() {
  local label=$1 answer wrong pattern='"probabilities"[[:space:]]*:[[:space:]]*\{([^}]*)\}'
  shift
  secret=${API_KEY:+X-API-Key: $API_KEY}
  ask /predict "$@"
  secret=
  answered 200 || return 1
  predictions=$((predictions + 1))
  answer=$(field label)
  [[ $body =~ $pattern ]] || because "has no probabilities: $body" || return 1
  [ "$answer" = "$label" ] || because "is classified as '$answer': {${BASH_REMATCH[1]}}" || return 1
  wrong=$(printf '%s\n' "${BASH_REMATCH[1]}" | unsound "$label")
  why="$wrong: {${BASH_REMATCH[1]}}"
  detail=${BASH_REMATCH[1]}
  [ -z "$wrong" ]
}
sees_cat() { sees cat --form "file=@cat.jpg"; }
sees_dog() { sees dog --data-binary @dog.jpg --header "Content-Type: image/jpeg"; } # the other way to send one

# rejects STATUS FILE: succeed if the file, sent as a JPEG, is answered by a problem of that status.
rejects() {
  secret=${secret:-${API_KEY:+X-API-Key: $API_KEY}}
  ask /predict --data-binary "@$2" --header "Content-Type: image/jpeg"
  secret=
  answered "$1" || return 1
  [[ $kind == application/problem+json* && $body =~ \"status\"[[:space:]]*:[[:space:]]*$1 ]] ||
    because "answers $1, but not as application/problem+json: $kind $body"
}
rejects_wrong_key() {
  secret="X-API-Key: not-the-key-$RANDOM"
  rejects 401 cat.jpg
}

# in_metrics: read Prometheus' text; print when the process started and how many predictions it has counted.
in_metrics() {
  awk '
    $1 == "process_start_time_seconds" { process = $2 }
    /^predictions_total\{.*label="/ { total += $NF; counted = 1 }
    END { printf "%s %s\n", (process == "" ? "-" : process), (counted ? sprintf("%.0f", total) : "-") }'
}

# counters: set total, the predictions that /metrics counts, and process, when the process that answered started.
counters() {
  local reading
  secret=${METRICS_TOKEN:+Authorization: Bearer $METRICS_TOKEN}
  ask /metrics
  secret=
  answered 200 METRICS_TOKEN || return 1
  reading=$(in_metrics <"$work/body")
  read -r process total <<<"$reading"
  [[ $total =~ ^[0-9]+$ ]] || because "has no predictions_total"
}

# Behind one URL there may be several processes with their own counters, and nothing says which one answers next. Their
# start times tell them apart: the counter of one process must grow by the predictions in between. Each round reads
# once more than the one before, so as not to keep in step with a proxy that takes turns.
counts() {
  local before=$total began=$process several=0 round reading
  for round in 1 2 3 4 5; do
    for ((reading = 0; reading < round; reading++)); do
      counters || return 1
      detail="predictions_total $before, then $total"
      if [ "$process" != "$began" ]; then
        several=1
      elif [ $((total - before)) -ge "$predictions" ]; then
        return 0
      fi
    done
    before=$total began=$process predictions=0
    [ "$round" = 5 ] || { sees_cat && sees_dog; }
  done
  if [ "$several" = 1 ]; then
    detail="several processes answer, so the counters cannot be compared"
    return 0
  fi
  because "predictions_total does not grow with predictions: $before, then $total"
}

# check NAME COMMAND: run the command, print its result, and count it.
passed=0 failed=0
check() {
  local name=$1 verdict=ok
  shift
  why='' detail='' ms=0
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1)) verdict=FAILED detail=$why
  fi
  printf '%-20s %7s ms  %-6s  %s\n' "$name" "$ms" "$verdict" "$(clean "$detail")"
}

why='' detail=''
printf 'not a photo\n' >"$work/text.jpg"
head -c 12000 cat.jpg >"$work/truncated.jpg"

check "ready" is_ready
if [ "$failed" = 0 ]; then
  check "health" is_healthy
  check "X-Request-ID" echoes_request_id
  check "model" is_the_model
  counters && counted=1 || counted=0
  check "cat" sees_cat
  check "dog" sees_dog
  check "text rejected" rejects 415 "$work/text.jpg"
  check "half JPEG rejected" rejects 422 "$work/truncated.jpg"
  [ -z "${API_KEY:-}" ] || check "wrong key rejected" rejects_wrong_key
  if [ "$counted" = 1 ]; then check "metrics" counts; else check "metrics" counters; fi
fi

if [ "$failed" -gt 0 ]; then
  printf 'FAILED: %s of %s checks\n' "$failed" "$((passed + failed))"
  exit 1
fi
printf 'all %s checks passed\n' "$passed"
