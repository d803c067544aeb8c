#!/usr/bin/env bash
# Every suite, one after the other; all of them run even when one fails; the summary stands last.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
names=() results=() times=()
failed=0
suite() { # suite NAME COMMAND...
  local name=$1 begin=$SECONDS
  shift
  if hack/step.sh "$name" "$@"; then results+=(ok); else results+=(FAILED); failed=$((failed + 1)); fi
  names+=("$name")
  times+=($((SECONDS - begin)))
}
for target in $(make -s suites); do suite "$target" make -s "$target"; done
echo
for i in "${!names[@]}"; do printf '%-16s %-7s %5d s\n' "${names[$i]}" "${results[$i]}" "${times[$i]}"; done
echo
echo "suites: $((${#names[@]} - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
