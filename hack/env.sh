# shellcheck shell=bash
# Sourced by the other scripts: where things are. Never touches a context that CONTEXT does not name.
. hack/cache.sh
STATE=$CACHE/state
CLUSTER=tests/cluster/cluster.sh
OPERATOR_NAMESPACE=screenshot-operator
export CLUSTER STATE OPERATOR_NAMESPACE
if [ -n "${CONTEXT:-}" ]; then
  kubectl() { command kubectl --context "$CONTEXT" "$@"; }
  helm() { command helm --kube-context "$CONTEXT" "$@"; }
  export -f kubectl helm
else
  PATH=$("$CLUSTER" path):$PATH
  KUBECONFIG=$("$CLUSTER" kubeconfig)
  export PATH KUBECONFIG
fi
