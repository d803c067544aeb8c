#!/usr/bin/env bash
# Runs one step under a name: says what it does, every 20 s that it still does it, how long it took, and how it ended.
#   step.sh NAME COMMAND...
# Settings: STEP_EVERY=20   seconds between two signs of life
set -uo pipefail
name=$1
shift
printf '\033[1m== %s\033[0m\n' "$name"
start=$SECONDS
# It reads from a pipe that only this process holds open, so it ends with it, however that ends.
alive() {
  local code=0
  while :; do
    read -r -t "${STEP_EVERY:-20}" || code=$?
    [ $code -gt 128 ] || return 0 # not the time was over: the step is
    printf '   still %s: %d s\n' "$name" $((SECONDS - start))
  done
}
exec 8> >(alive)
"$@" 8>&-
code=$?
if [ $code -eq 0 ]; then
  printf -- '-- %s: ok, %d s\n' "$name" $((SECONDS - start))
else
  printf -- '-- %s: FAILED with %d after %d s: %s\n' "$name" $code $((SECONDS - start)) "$*" >&2
fi
exit $code
