# shellcheck shell=bash
# Sourced by benchmarks in shell: a clock, samples by name, rows of medians as a table and as JSON.
# The JSON is what `screenshot-bench` writes: rows {figure, value, goal, unit, atLeast, rounds, spread}.
declare -A samples
rows_json=()

begin() { began=$EPOCHREALTIME; }
took() { add "$1" "$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f", b - a }')"; } # since begin, in s
add() { samples[$1]+="$2 "; printf '   %s: %s\n' "$1" "$2" >&2; }

row() { # row SAMPLES FIGURE UNIT GOAL: an upper bound, or empty
  rows_json+=("$(tr ' ' '\n' <<<"${samples[$1]:-}" | jq -sc --arg figure "$2" --arg unit "$3" --arg goal "$4" '
    sort | {figure: $figure,
      value: (length as $n | if $n == 0 then null else (.[($n - 1) / 2 | floor] + .[$n / 2 | floor]) / 2 end),
      goal: (if $goal == "" then null else ($goal | tonumber) end), unit: $unit, atLeast: false, rounds: length,
      spread: (if length == 0 then null else [.[0], .[-1]] end)}')")
}

finish_rows() { # finish_rows FILE: rows of an earlier run that this one did not measure stay
  mkdir -p "$(dirname "$1")"
  local earlier='[]'
  if [ -s "$1" ]; then earlier=$(jq -c .rows "$1" 2>/dev/null || echo '[]'); fi
  printf '%s\n' "${rows_json[@]}" | jq -s --argjson earlier "$earlier" --arg cores "$(nproc)" --arg kernel "$(uname -r)" '
    (map(.figure)) as $new | {machine: {cores: ($cores | tonumber), kernel: $kernel, time: (now | todate)},
      rows: (($earlier | map(select(.figure as $f | $new | index($f) | not))) + .)}' >"$1.new"
  mv "$1.new" "$1"
  jq -r 'def short: if . == null then "-" else . * 100 | round / 100 end;
    .rows[] | [.figure, (.value | short), .unit, (if .goal then "<= \(.goal)" else "" end),
      (if .goal == null or .value == null then "" elif .value <= .goal then "ok" else "MISSED" end),
      (if .spread then "\(.spread[0] | short)..\(.spread[1] | short)" else "" end), .rounds] | @tsv' "$1" |
    column -t -s "$(printf '\t')"
  echo "-> $1"
}
