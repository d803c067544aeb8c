#!/usr/bin/env bash
# The checkers of `make lint`, installed where they are missing.
#   hack/lint.sh [--mutate] [GATE...]     see hack/lint/gates.py
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
LINT=$(hack/lint/install.sh)
export LINT HELM=$LINT/bin/helm PYTHONDONTWRITEBYTECODE=1
# Whatever ends it, and whatever the checkers leave there, goes.
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
"$LINT/venv/bin/python" hack/lint/gates.py "$@"
