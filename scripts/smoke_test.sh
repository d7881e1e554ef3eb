#!/usr/bin/env bash
# Ask a live service whether it does its work: ready, right about a cat and a dog, and strict about what is no photo.
#   scripts/smoke_test.sh https://cats-vs-dogs.example.org
# Exit code 0 when all of it passed, else 1. Environment, each optional:
#   WAIT_SECONDS      how long it may take to get ready, 120; a sleeping free instance takes 60 and more
#   API_KEY           sent as X-API-Key with each photo; a wrong one must then be refused
#   METRICS_TOKEN     sent as Bearer token to /metrics
#   EXPECTED_VERSION  of the model, as /model tells it
#   EXPECTED_SHA256   of the model's file, as /model tells it
#   MIN_PROBABILITY   of the right class, 0.6: a model that guesses is right by luck at times
# Needs bash, 3.2 will do, curl, and of POSIX awk, head and tr; neither jq nor Python.
set -u
export LC_ALL=C
unset CDPATH

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# What others sent is printed on one line and without control characters: logs and terminals obey some.
clean() { printf '%s' "$1" | tr '\n\t' '  ' | tr -cd '[:print:]' | head -c 200; }

[ $# = 1 ] || die "usage: smoke_test.sh URL"
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
  [[ ${!name:-} == *[[:cntrl:]]* ]] && die "$name holds a control character"
done
command -v curl >/dev/null || die "curl is not installed"

cd "$(dirname "${BASH_SOURCE[0]}")/../tests/photos" || die "the photos are missing"
work=$(mktemp -d "${TMPDIR:-/tmp}/smoke.XXXXXX") || die "no temporary folder"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# ask PATH [curl's options]: sets status (000: no answer), ms, kind (content type), body and problem (why no answer).
# `secret`, a header, goes through a pipe: the process list shows every argument.
limit=30
secret=
ask() {
  local path=$1 told time fraction options
  shift
  options=(--disable --globoff --silent --show-error --connect-timeout 10 --max-time "$limit" --max-filesize 4000000)
  options+=(--dump-header "$work/head" --output "$work/body" --write-out '%{http_code} %{time_total} %{content_type}')
  [ -z "$secret" ] || options+=(--header @-)
  : >"$work/head"
  : >"$work/body"
  told=$(printf '%s\n' "$secret" | curl "${options[@]}" "$@" "$url$path" 2>"$work/problem")
  read -r status time kind <<<"$told"
  fraction=${time#*.}000
  ms=$((10#${time%%.*} * 1000 + 10#${fraction:0:3}))
  body=$(tr -d '\0' <"$work/body")
  problem=$(head -n 1 "$work/problem")
  problem=${problem#curl: }
}

# answered STATUS: whether that was the answer; else why not.
answered() {
  [ "$status" != "$1" ] || return 0
  case $status in
  000) why=${problem:-no answer} ;;
  401) why="answers 401: is $needs set, and right?" ;;
  *) why="answers $status instead of $1: $body" ;;
  esac
  return 1
}

# field NAME: the string of that name in the body, a JSON object.
field() {
  local pattern="\"$1\"[[:space:]]*:[[:space:]]*\"([^\"]*)\""
  [[ $body =~ $pattern ]] && printf '%s' "${BASH_REMATCH[1]}"
}

wait_until_ready() {
  local end=$((SECONDS + wait_seconds)) left shown=-5
  while :; do
    left=$((end - SECONDS))
    limit=$((left < 1 ? 1 : left > 60 ? 60 : left)) # a platform may hold the request while it starts the service
    ask /ready
    limit=30
    if answered 200; then
      [ "$(field status)" != ready ] || return 0 # else a page of a proxy, say
      why="answers 200 but not as the service does: $body"
    elif [[ $status == 30[18] ]]; then
      why="redirects: to which URL tells curl -sI $url/ready"
      return 1
    fi
    [ "$SECONDS" -lt "$end" ] || return 1
    if [ $((SECONDS - shown)) -ge 5 ]; then
      shown=$SECONDS
      printf 'waiting, %s of %s s: /ready %s\n' "$((SECONDS - end + wait_seconds))" "$wait_seconds" "$(clean "$why")" >&2
    fi
    sleep 1
  done
}

is_ready() {
  local since=$SECONDS
  wait_until_ready || {
    why="not ready after $((SECONDS - since)) s: $why"
    return 1
  }
  detail="after $((SECONDS - since)) s"
}

is_healthy() {
  ask /health
  answered 200 || return 1
  [ "$(field status)" = ok ] || {
    why="answers $body"
    return 1
  }
}

echoes_request_id() {
  local id="smoke-$$-$RANDOM" echoed
  ask /health --header "X-Request-ID: $id"
  answered 200 || return 1
  echoed=$(awk 'tolower($1) == "x-request-id:" { print $2 }' "$work/head" | tr -d '\r')
  [ "$echoed" = "$id" ] || {
    why="comes back as '$echoed' instead of '$id'"
    return 1
  }
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
    why="tells no version or no sha256: $body"
  elif [ "${EXPECTED_VERSION:-$version}" != "$version" ]; then
    why="has version $version instead of $EXPECTED_VERSION"
  elif [ "${expected:-$sha256}" != "$sha256" ]; then
    why="has SHA-256 $sha256 instead of $expected"
  else
    return 0
  fi
  return 1
}

# unsound LABEL: reads a JSON object of probabilities; says what is wrong with them, if anything.
unsound() {
  awk -v label="$1" -v least="$MIN_PROBABILITY" '
    { text = text $0 " " }
    END {
      count = split(text, pairs, ",")
      for (i = 1; i <= count; i++) {
        if (!match(pairs[i], /"[ \t]*:/)) { print "no object of probabilities"; exit }
        name = substr(pairs[i], 1, RSTART - 1)
        value = substr(pairs[i], RSTART + RLENGTH)
        sub(/^[ \t]*"/, "", name)
        gsub(/[ \t]/, "", value)
        if (value !~ /^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$/ || value + 0 > 1) { print value " is no probability"; exit }
        sum += value
        if (name == label) own = value + 0
        else if (value + 0 > other) other = value + 0
      }
      if (sum < 0.999 || sum > 1.001) print "the probabilities sum to " sum
      else if (own < other) print "another class is more probable"
      else if (own < least + 0) print "its probability is " own ": a guess"
    }'
}

# sees LABEL [curl's options]: whether the photo sent so is answered so.
predictions=0
sees() {
  local label=$1 found wrong pattern='"probabilities"[[:space:]]*:[[:space:]]*\{([^}]*)\}'
  shift
  secret=${API_KEY:+X-API-Key: $API_KEY}
  ask /predict "$@"
  secret=
  answered 200 || return 1
  predictions=$((predictions + 1))
  found=$(field label)
  [[ $body =~ $pattern ]] || {
    why="tells no probabilities: $body"
    return 1
  }
  [ "$found" = "$label" ] || {
    why="is taken for '$found': {${BASH_REMATCH[1]}}"
    return 1
  }
  wrong=$(printf '%s\n' "${BASH_REMATCH[1]}" | unsound "$label")
  why="$wrong: {${BASH_REMATCH[1]}}"
  detail=${BASH_REMATCH[1]}
  [ -z "$wrong" ]
}
sees_cat() { sees cat --form "file=@cat.jpg"; }
sees_dog() { sees dog --data-binary @dog.jpg --header "Content-Type: image/jpeg"; } # the other way to send one

# refuses STATUS FILE: whether the file, said to be a JPEG, is answered by a problem of that status.
refuses() {
  secret=${secret:-${API_KEY:+X-API-Key: $API_KEY}}
  ask /predict --data-binary "@$2" --header "Content-Type: image/jpeg"
  secret=
  answered "$1" || return 1
  [[ $kind == application/problem+json* && $body =~ \"status\"[[:space:]]*:[[:space:]]*$1 ]] || {
    why="answers $1, but not as application/problem+json: $kind $body"
    return 1
  }
}
refuses_wrong_key() {
  secret="X-API-Key: not-the-key-$RANDOM"
  refuses 401 cat.jpg
}

# in_metrics: reads Prometheus' text; prints when the process began, and all that it has predicted.
in_metrics() {
  awk '
    $1 == "process_start_time_seconds" { process = $2 }
    /^predictions_total\{.*label="/ { total += $NF; found = 1 }
    END { printf "%s %s\n", (process == "" ? "-" : process), (found ? sprintf("%.0f", total) : "-") }'
}

# counters: sets total, all that /metrics counts as predicted, and process, when the process that answered began.
counters() {
  local good told
  secret=${METRICS_TOKEN:+Authorization: Bearer $METRICS_TOKEN}
  needs=METRICS_TOKEN
  ask /metrics
  answered 200
  good=$?
  secret=
  needs=API_KEY
  [ "$good" = 0 ] || return 1
  told=$(in_metrics <"$work/body")
  read -r process total <<<"$told"
  [[ $total =~ ^[0-9]+$ ]] || {
    why="has no predictions_total"
    return 1
  }
}

# Behind one URL there may be several processes, each with counters of its own, and nothing says which one answers
# next. When a process began tells them apart: if all that is read is of one process, it must have grown by what was
# predicted meanwhile. Each further round reads once more, so as not to keep step with a proxy that takes turns.
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
    detail="several processes answer, so the counters can't be compared"
    return 0
  fi
  why="predictions_total doesn't grow with predictions: $before, then $total"
  return 1
}

# check NAME COMMAND: runs it, tells the outcome, counts it.
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

needs=API_KEY
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
  check "text refused" refuses 415 "$work/text.jpg"
  check "half a JPEG refused" refuses 422 "$work/truncated.jpg"
  [ -z "${API_KEY:-}" ] || check "wrong key refused" refuses_wrong_key
  if [ "$counted" = 1 ]; then check "metrics" counts; else check "metrics" counters; fi
fi

if [ "$failed" -gt 0 ]; then
  printf 'FAILED: %s of %s checks\n' "$failed" "$((passed + failed))"
  exit 1
fi
printf 'all %s checks passed\n' "$passed"
