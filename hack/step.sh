#!/usr/bin/env bash
# Runs one step under a name: says what it does, how long it took, and how it ended.
#   step.sh NAME COMMAND...
set -uo pipefail
name=$1
shift
printf '\033[1m== %s\033[0m\n' "$name"
start=$SECONDS
"$@"
code=$?
if [ $code -eq 0 ]; then
  printf -- '-- %s: ok, %d s\n' "$name" $((SECONDS - start))
else
  printf -- '-- %s: FAILED with %d after %d s: %s\n' "$name" $code $((SECONDS - start)) "$*" >&2
fi
exit $code
