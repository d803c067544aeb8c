# shellcheck shell=bash
# Sourced by the other scripts: which cluster is meant and where things are. Sets WHERE:
#   context  the cluster that CONTEXT names; no other context is ever touched
#   local    the project's own single-node cluster; needs root on Linux
#   kind     a kind cluster of our own name, where the local one cannot run; its kubeconfig is a file of ours
# Settings: ONLY_DOWN=1, by who only removes: then nothing is built for that
. hack/cache.sh
STATE=$CACHE/state
CLUSTER=tests/cluster/cluster.sh
OPERATOR_NAMESPACE=screenshot-operator
# Where the images' names begin. Another cluster pulls them from a registry to which its owner has pushed dist/images.
IMAGES=${IMAGES:-localhost}
# In a cluster that is not ours: on a namespace, if it was not there before, and on the release that hack/install.sh made.
MADE=screenshot-operator.io/made-for
export CLUSTER STATE OPERATOR_NAMESPACE IMAGES
if [ -n "${CONTEXT:-}" ]; then
  WHERE=context
  kubectl() { command kubectl --context "$CONTEXT" "$@"; }
  helm() { command helm --kube-context "$CONTEXT" "$@"; }
  export -f kubectl helm
elif [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ]; then
  WHERE=local
  if [ -z "${ONLY_DOWN:-}" ]; then
    PATH=$("$CLUSTER" path):$PATH
    KUBECONFIG=$("$CLUSTER" kubeconfig)
    export PATH KUBECONFIG
  elif [ -d "$CACHE/cluster" ]; then
    # The cluster's program that was used last, whichever checkout it is of.
    last=$(find "$CACHE/cluster" -maxdepth 3 -type f -name 'cluster-????????????????' -printf '%T@ %p\n' |
      sort -n | tail -n 1 | cut -d ' ' -f 2-)
    CLUSTER=${last:-$CLUSTER}
  fi
else
  WHERE=kind
  KUBECONFIG=$STATE/kind.kubeconfig
  export KUBECONFIG
fi
export WHERE
own_namespace() { # own_namespace NAME: makes and marks it, unless it is there
  if ! kubectl get namespace "$1" >/dev/null 2>&1; then
    kubectl create namespace "$1" --save-config # so that a later `apply` does not warn
    kubectl label namespace "$1" "$MADE=$1"
  fi
}
# revision IMAGE: a checksum of that image as the cluster has it, which its pods are told, so that a rebuilt image of the same
# name is rolled out. Of what is in the registry of CONTEXT's cluster nothing is known.
revision() {
  case $WHERE in
    local) cksum <"dist/images/$1.tar" ;;
    kind) cksum <"$STATE/$1.tar" ;;
    context) echo none ;;
  esac | cut -d ' ' -f 1
}
