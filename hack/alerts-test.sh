#!/usr/bin/env bash
# The alerts that the operator plans for a service, as promtool reads and evaluates them.
# In: PROMTOOL, the program (default: the one in PATH). The rules come out of the golden plan of a monitored service.
set -euo pipefail
cd "$(dirname "$0")/.."
promtool=${PROMTOOL:-promtool}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 - operator/tests/snapshots/golden__the_plan_of_a_monitored_service.snap "$work/rules.yaml" <<'PY'
import sys
import yaml

text = open(sys.argv[1]).read().split("\n---\n", 1)[1]
rules = [d for d in yaml.safe_load_all(text) if d and d["kind"] == "PrometheusRule"]
assert len(rules) == 1, "the plan has no PrometheusRule"
yaml.safe_dump({"groups": rules[0]["spec"]["groups"]}, open(sys.argv[2], "w"))
PY
cp operator/tests/alerts/test.yaml "$work/test.yaml"
"$promtool" check rules "$work/rules.yaml"
"$promtool" test rules "$work/test.yaml"
