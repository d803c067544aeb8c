#!/usr/bin/env bash
# Brings the operator up on a cluster: the local one (made if it is not there), the one that CONTEXT names, or kind where
# the local one cannot run (hack/env.sh decides).
# Prints nothing but progress. Used by `make demo` and by the end-to-end tests.
#   install.sh        cluster, images, operator
#   install.sh there  whether the operator that it would bring up is there already
#   install.sh down   remove the operator and, if it is ours, the cluster
# Settings: CLUSTER_NAME=dev, CLUSTER_PORT=16443   the local cluster
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh

# release: whose the operator in another's cluster is: nobody's, ours or theirs. Fails where that cannot be asked.
release() {
  # All states: helm 3 leaves some out unless it is told, and helm 4 does not know its --all. But one that is gone
  # and has left its history.
  local list=(helm list --namespace "$OPERATOR_NAMESPACE" --short --filter '^screenshot-operator$'
    --deployed --failed --pending --superseded --uninstalling) any made
  any=$("${list[@]}") || return
  made=$("${list[@]}" --selector "$MADE=$OPERATOR_NAMESPACE") || return
  if [ -z "$any" ]; then echo nobody; elif [ -n "$made" ]; then echo ours; else echo theirs; fi
}

down() {
  local release
  case $WHERE in
    context)
      release=$(release)
      if [ "$release" = theirs ]; then
        echo "the operator in context $CONTEXT was not installed by this project's scripts, and stays"
        return
      fi
      helm uninstall screenshot-operator --namespace "$OPERATOR_NAMESPACE" --ignore-not-found
      # Only if `up` made it.
      kubectl delete namespace --selector "$MADE=$OPERATOR_NAMESPACE" --ignore-not-found
      echo "the definition of the kind stays, as a service of yours may need it; this removes it and every service there is:"
      echo "  kubectl --context $CONTEXT delete crd screenshotservices.screenshot-operator.io"
      ;;
    local)
      "$CLUSTER" down
      rm -f "$STATE/loaded-${CLUSTER_NAME:-dev}"-*
      ;;
    kind) hack/kind.sh down ;;
  esac
}

load() { # load NAME: gives the image to the node unless it has exactly this one
  local tar=dist/images/$1.tar thin=dist/images/$1.thin.tar mark=$STATE/loaded-${CLUSTER_NAME:-dev}-$1 wanted had
  wanted="$CLUSTER_ID $(sha256sum "$tar" | cut -d' ' -f1)"
  had=$(cat "$mark" 2>/dev/null || true)
  [ "$had" = "$wanted" ] && return 0
  # A node that has an earlier build has its base layers, too: the layer with the program is enough.
  if [ "${had%% *}" = "$CLUSTER_ID" ] && [ -f "$thin" ] && "$CLUSTER" load "$thin" 2>/dev/null; then
    echo "$wanted" >"$mark"
    return 0
  fi
  hack/step.sh "load $1" "$CLUSTER" load "$tar"
  echo "$wanted" >"$mark"
}

up() {
  local release
  case $WHERE in
    context)
      release=$(release)
      if [ "$release" = theirs ]; then
        echo "context $CONTEXT has a release screenshot-operator in the namespace $OPERATOR_NAMESPACE that this project's scripts" \
          "did not make; it is left as it is. Uninstall it first, or use another cluster." >&2
        return 1
      fi
      echo "using the cluster of context $CONTEXT; its nodes must be able to pull $IMAGES/..."
      own_namespace "$OPERATOR_NAMESPACE"
      ;;
    kind) hack/step.sh "kind cluster and images" hack/kind.sh up ;;
    local)
      hack/step.sh "cluster" "$CLUSTER" up --port "${CLUSTER_PORT:-16443}"
      hack/step.sh "images" hack/images.sh all
      CLUSTER_ID=$(kubectl get namespace kube-system -o jsonpath='{.metadata.uid}')
      mkdir -p "$STATE"
      for image in screenshot-operator capture-server demo-site; do load "$image"; done
      ;;
  esac
  local revision
  revision=$(revision screenshot-operator)
  # What a killed test left changed in our own cluster is taken back. For kind it is empty, which bash before 4.4 takes for unset.
  local ours=()
  case $WHERE in
    local) ours=(--force-conflicts) ;;
    context) ours=(--labels "$MADE=$OPERATOR_NAMESPACE") ;;
  esac
  hack/step.sh "operator" helm upgrade --install screenshot-operator charts/screenshot-operator \
    --namespace "$OPERATOR_NAMESPACE" --create-namespace --wait --timeout 120s \
    --set image.repository="$IMAGES/screenshot-operator" --set image.tag=dev \
    --set captureImage.repository="$IMAGES/capture-server" --set captureImage.tag=dev \
    --set-string "podAnnotations.build=$revision" ${ours[@]+"${ours[@]}"} || { hack/report.sh "$OPERATOR_NAMESPACE"; return 1; }
}

there() {
  local release state
  case $WHERE in
    local) # Read to its end, which grep would not wait for.
      state=$("$CLUSTER" status)
      [[ $state == *': up for '* ]]
      ;;
    context)
      release=$(release)
      [ "$release" != nobody ]
      ;;
    kind) hack/kind.sh there ;;
  esac
}

case "${1:-up}" in
  up) up ;;
  there) there ;;
  down) down ;;
  *) echo "usage: install.sh [up|there|down]" >&2; exit 2 ;;
esac
