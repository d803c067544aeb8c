#!/usr/bin/env bash
# Every suite, all of them even when one fails; the summary stands last.
# `make suites` says which: a line is a step, and what stands between bars on it runs beside one another: suites that
# mostly wait for a cluster of their own beside those that compile. The first of these shows its progress here, each
# other one's output is shown when it has ended; all of it is kept in target/test/. A test that passed at its second try
# only is named in the summary.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
logs=target/test
rm -rf $logs && mkdir -p $logs
groups=() group=
# A lane is a process group of its own, so that what is stopped here is stopped there too, and ends its cluster.
trap 'for group in "${groups[@]}"; do kill -TERM -- "-$group" 2>/dev/null; done; wait' EXIT

suite() { # suite NAME: leaves its result and its seconds in target/test/NAME.result, and what it said in NAME.log
  local begin=$SECONDS result=ok
  set -o pipefail
  hack/step.sh "$1" make -s "$1" 2>&1 | tee "$logs/$1.log" || result=FAILED
  echo "$result $((SECONDS - begin))" >"$logs/$1.result"
}
# flaky NAME: the tests of a suite that passed at their second try only, as nextest's last lines name them
flaky() { sed -nE 's/\x1b\[[0-9;]*m//g; s/^ *FLAKY [^]]*\] *(\([^)]*\) *)?//p' "$logs/$1.log" 2>/dev/null | sort -u; }
lane() { for name in "$@"; do suite "$name"; done; }
export -f suite lane
export logs

mapfile -t steps < <(make -s suites)
for step in "${steps[@]}"; do
  IFS='|' read -ra lanes <<<"$step"
  beside=()
  for i in "${!lanes[@]}"; do
    read -ra names <<<"${lanes[$i]}"
    [ "$i" -gt 0 ] || continue
    echo "beside it, shown when it has ended: ${names[*]}"
    setsid bash -c 'lane "$@"' lane "${names[@]}" >"$logs/lane-$i.log" 2>&1 &
    groups+=("$!")
    beside+=("$i:$!")
  done
  read -ra names <<<"${lanes[0]}"
  lane "${names[@]}"
  for running in "${beside[@]}"; do
    wait "${running#*:}"
    cat "$logs/lane-${running%%:*}.log"
  done
  groups=()
done

echo
passed=0 failed=0 retried=0
for name in $(tr '|\n' '  ' <<<"${steps[*]}"); do
  result=FAILED seconds=0
  [ ! -f "$logs/$name.result" ] || read -r result seconds <"$logs/$name.result"
  if [ "$result" = ok ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  printf '%-16s %-7s %5d s\n' "$name" "$result" "$seconds"
  while read -r test; do
    printf '  second try:    %s\n' "$test"
    retried=$((retried + 1))
  done < <(flaky "$name")
done
echo
echo "suites: $passed passed, $failed failed, $SECONDS s in all; tests that needed a second try: $retried"
[ "$failed" -eq 0 ]
