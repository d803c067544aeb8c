#!/usr/bin/env bash
# Says why something in a namespace does not come up: what its services say of themselves, its workloads, the last events.
#   report.sh NAMESPACE
set -uo pipefail
namespace=$1
{
  echo "== why: what there is in namespace $namespace"
  kubectl -n "$namespace" get shot --ignore-not-found \
    -o jsonpath='{range .items[*]}{.metadata.name}{":\n"}{range .status.conditions[*]}{"  "}{.type}={.status} {.reason}: {.message}{"\n"}{end}{end}'
  kubectl -n "$namespace" get deployments,daemonsets,pods -o wide
  kubectl -n "$namespace" get events --sort-by=.metadata.creationTimestamp | tail -n 15
} >&2
exit 0
