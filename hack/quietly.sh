#!/usr/bin/env bash
# Runs a program that says much and little of use: its output goes to a file, whose end is shown if the program fails.
#   quietly.sh COMMAND...
set -uo pipefail
log=$(mktemp "${TMPDIR:-/tmp}/screenshot-operator.XXXXXX")
trap 'rm -f "$log"; exit 130' INT
trap 'rm -f "$log"; exit 143' TERM
"$@" >"$log" 2>&1
code=$?
if [ $code -eq 0 ]; then
  rm -f "$log"
else
  tail -n 20 "$log" >&2
  echo "$1 failed; its whole output is in $log" >&2
fi
exit $code
