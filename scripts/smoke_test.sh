#!/usr/bin/env bash
# Check that a live service works: it is ready, gives its model's example photos the right labels, and rejects files that
# are not photos. GET /model/examples lists the example photos; if there are none, no label is checked.
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

# find_examples: set labels and photos, the example photos that the service offers. Labels stay as JSON writes them, as
# in an answer of /predict, because their names may have any character.
labels=() photos=()
find_examples() {
  local string='"(([^"\\]|\\.)*)"' colon='[[:space:]]*:[[:space:]]*' pattern rest number label
  pattern="\"label\"$colon${string}[[:space:]]*,[[:space:]]*\"path\"$colon\"(/[A-Za-z0-9/._~%-]*)\""
  ask /model/examples
  detail="none, so no label is checked"
  [ "$status" != 404 ] || return 0 # a service of an earlier version
  answered 200 || return 1
  rest=$body
  while [ "${#labels[@]}" -lt 24 ] && [[ $rest =~ $pattern ]]; do
    rest=${rest#*"${BASH_REMATCH[0]}"}
    label=${BASH_REMATCH[1]} number=${#labels[@]}
    ask "${BASH_REMATCH[3]}"
    answered 200 || because "the photo of $label $why" || return 1
    labels[number]=$label photos[number]=$work/example$number.jpg
    mv "$work/body" "${photos[number]}"
  done
  [[ $rest != *'"path"'* ]] || because "not as expected: $body" || return 1
  [ "${#labels[@]}" = 0 ] || detail=${#labels[@]}
}

# read_answer [LABEL]: read an answer of /predict; print its label, its probabilities, and what is wrong with them, if
# anything. With LABEL, that must be the likeliest class.
read_answer() {
  LABEL=${1-} awk -v least="$MIN_PROBABILITY" '
    function fail(text) { if (problem == "") problem = text }
    function value_of(name, text) {
      if (text !~ /^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$/ || text + 0 > 1) fail(text " is not a probability")
      sum += text
      if (name == ENVIRON["LABEL"]) own = text + 0
      else if (text + 0 > other) other = text + 0
    }
    { rest = rest $0 " " }
    END {
      # The tokens of the JSON text: strings, punctuation, and anything else.
      while (match(rest, /^[ \t\r]*("([^"\\]|\\.)*"|[][{}:,]|[^]["{}:, \t\r]+)/)) {
        token = substr(rest, RSTART, RLENGTH)
        rest = substr(rest, RSTART + RLENGTH)
        gsub(/^[ \t\r]+/, "", token)
        if (inside) shown = shown token
        if (token ~ /^[[{]$/) { depth++; inside = inside || token == "{" && depth == 2 && key == "\"probabilities\""; key = "" }
        else if (token ~ /^[]}]$/) { if (inside && depth == 2) { found = 1; inside = 0 } depth--; key = "" }
        else if (token == ":") key = last
        else if (token == ",") key = ""
        else if (key == "\"label\"" && depth == 1 && token ~ /^"/) label = substr(token, 2, length(token) - 2)
        else if (key != "" && inside && depth == 2) value_of(substr(key, 2, length(key) - 2), token)
        last = token
      }
      sub(/}$/, "", shown)
      if (!found) fail("has no probabilities")
      if (sum < 0.999 || sum > 1.001) fail("the probabilities sum to " sum + 0)
      if (ENVIRON["LABEL"] != "" && own < other) fail("another class is more probable")
      if (ENVIRON["LABEL"] != "" && own < least + 0) fail("its probability is only " own + 0)
      printf "%s\n%s\n%s\n", label, shown, problem
    }'
}

# sees LABEL [curl's options]: succeed if the photo that the options send is classified as this label; if that is empty,
# any label will do.
predictions=0
sees() {
  local label=$1 reading answer='' shares='' wrong=''
  shift
  secret=${API_KEY:+X-API-Key: $API_KEY}
  ask /predict "$@"
  secret=
  answered 200 || return 1
  predictions=$((predictions + 1))
  reading=$(read_answer "$label" <"$work/body")
  { IFS= read -r answer && IFS= read -r shares && IFS= read -r wrong; } <<<"$reading"
  detail=$shares
  [ "$wrong" != "has no probabilities" ] || because "has no probabilities: $body" || return 1
  [ -n "$answer" ] || because "has no label: $body" || return 1
  [ -z "$label" ] || [ "$answer" = "$label" ] || because "is classified as '$answer': {$shares}" || return 1
  [ -z "$wrong" ] || because "$wrong: {$shares}"
}

# sees_example NUMBER: succeed if that example photo gets its label. Photos are sent in the two ways in turn.
sees_example() {
  if [ $(($1 % 2)) = 0 ]; then
    sees "${labels[$1]}" --form "file=@${photos[$1]}"
  else
    sees "${labels[$1]}" --data-binary "@${photos[$1]}" --header "Content-Type: image/jpeg"
  fi
}

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
    [ "$round" = 5 ] || { sees_example 0 && sees_example 1; }
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
  printf '%-20s %7s ms  %-6s  %s\n' "$(clean "$name")" "$ms" "$verdict" "$(clean "$detail")"
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
  check "examples" find_examples
  checked=${#photos[@]}
  # Without examples, any photo is sent, and with one it is sent twice: there are two ways to send one.
  [ "$checked" -gt 0 ] || labels[0]='' photos[0]=cat.jpg
  [ "$checked" -gt 1 ] || labels[1]=${labels[0]} photos[1]=${photos[0]}
  for ((number = 0; number < ${#photos[@]}; number++)); do
    check "${labels[number]:-any label}" sees_example "$number"
  done
  check "text rejected" rejects 415 "$work/text.jpg"
  check "half JPEG rejected" rejects 422 "$work/truncated.jpg"
  [ -z "${API_KEY:-}" ] || check "wrong key rejected" rejects_wrong_key
  if [ "$counted" = 1 ]; then check "metrics" counts; else check "metrics" counters; fi
fi

if [ "$failed" -gt 0 ]; then
  printf 'FAILED: %s of %s checks\n' "$failed" "$((passed + failed))"
  exit 1
fi
printf 'all %s checks passed%s\n' "$passed" "$([ "$checked" -gt 0 ] || printf '; without example photos, no label was checked')"
