#!/usr/bin/env bash
# Runs one step under a name: says what it does, every 20 s that it still does it, how long it took, and how it ended.
#   step.sh NAME COMMAND...
# Settings: STEP_EVERY=20   seconds between two signs of life
set -uo pipefail
name=$1
shift
printf '\033[1m== %s\033[0m\n' "$name"
start=$SECONDS
# Ends with the step, however that ends: by the trap below, or, if this was killed outright, within a second.
alive() {
  local second=0
  while sleep 1 && kill -0 $$ 2>/dev/null; do
    second=$((second + 1))
    [ $((second % ${STEP_EVERY:-20})) -ne 0 ] || printf '   still %s: %d s\n' "$name" $((SECONDS - start))
  done
}
alive &
signs=$!
trap 'kill $signs 2>/dev/null; wait $signs 2>/dev/null' EXIT
"$@"
code=$?
if [ $code -eq 0 ]; then
  printf -- '-- %s: ok, %d s\n' "$name" $((SECONDS - start))
else
  printf -- '-- %s: FAILED with %d after %d s: %s\n' "$name" $code $((SECONDS - start)) "$*" >&2
fi
exit $code
