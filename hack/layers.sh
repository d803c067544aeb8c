#!/usr/bin/env bash
# The arrows between the rooms point one way. The process that faces hostile input carries no Kubernetes client.
set -euo pipefail
fail=0
absent() { # absent PACKAGE DEPENDENCY
  local tree
  tree=$(cargo tree -q --locked -e normal --prefix none -p "$1")
  if grep -q "^$2 v" <<<"$tree"; then
    echo "$1 must not depend on $2" >&2
    fail=1
  fi
}
absent capture-server kube
absent capture-server k8s-openapi
absent capture-egress kube
absent screenshot-policy tokio
absent screenshot-policy kube
absent capture-jail tokio
absent screenshot-operator capture-jail
absent capture-server ring
absent screenshot-operator ring
exit $fail
