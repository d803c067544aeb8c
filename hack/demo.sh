#!/usr/bin/env bash
# From nothing to pictures: cluster, operator, a sample ScreenshotService, three captures.
#   demo.sh        bring it up
#   demo.sh down   remove what it made
# Settings: DEMO_OUT=dist/demo   where the pictures go
#           DEMO_TEST=1          for the tests: ends with the pictures
set -Eeuo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = down ]; then export ONLY_DOWN=1; fi
. hack/env.sh
OUT=${DEMO_OUT:-dist/demo}
case $OUT in /*) ;; *) OUT=$PWD/$OUT ;; esac
NAMESPACE=shots-demo
SITE=http://demo-site.$NAMESPACE.svc.cluster.local:8080

if [ "${1:-}" = down ]; then
  # The directory may be somebody's, with more in it.
  for picture in scripts long metadata; do rm -f "$OUT/$picture.png" "$OUT/$picture.png.headers"; done
  rmdir "$OUT" 2>/dev/null || true
  if [ "$WHERE" = local ] && [ ! -e "/var/tmp/sscluster/${CLUSTER_NAME:-dev}" ]; then
    echo "there is no cluster ${CLUSTER_NAME:-dev} on this machine: nothing else to remove"
    exit
  fi
  # All of the sample is in there. It is not deleted by its file, which fails where the definition of the kind is gone.
  if [ "$WHERE" = context ]; then kubectl delete namespace --selector "$MADE=$NAMESPACE" --ignore-not-found; fi
  exec hack/install.sh down
fi

start=$SECONDS
work=$(mktemp -d)
forward='' step=start
# What a person is to type: the local cluster and kind's are the shell's after env.sh, another one only by its name.
case $WHERE in
  context)
    by_hand="kubectl --context $(printf %q "$CONTEXT")"
    again="CONTEXT=$(printf %q "$CONTEXT") IMAGES=$(printf %q "$IMAGES") make"
    ;;
  *) by_hand=". hack/env.sh; kubectl" again=make ;;
esac
if [ -n "${DEMO_OUT:-}" ]; then again="DEMO_OUT=$(printf %q "$OUT") $again"; fi
failed() {
  # A command in parentheses has failed: its caller is told of it, too.
  [ "$BASH_SUBSHELL" -eq 0 ] || return 0
  echo "the demo stopped in the step \"$step\", see above. Logs:" >&2
  if [ "$WHERE" = local ]; then echo "  $CLUSTER logs" >&2; fi
  echo "  $by_hand -n $OPERATOR_NAMESPACE logs deploy/screenshot-operator" >&2
}
# kubectl may be a function here: then the program is a child of what was started.
finish() {
  if [ -n "$forward" ]; then
    pkill -P "$forward" || true
    kill "$forward" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap failed ERR
trap finish EXIT

if [ "$WHERE" = context ] && kubectl get namespace $NAMESPACE >/dev/null 2>&1 &&
  [ -z "$(kubectl get namespace --selector "$MADE=$NAMESPACE" -o name)" ]; then
  echo "context $CONTEXT has a namespace $NAMESPACE that this demo did not make; it is left as it is. Delete it first, or use" \
    "another cluster." >&2
  exit 1
fi
step="cluster, images and operator"
hack/install.sh up
step=sample
# The file of the sample stays plain; what this cluster needs is laid over it.
cp examples/demo.yaml "$work/sample.yaml"
cat >"$work/kustomization.yaml" <<K
resources: [sample.yaml]
images: [{name: localhost/demo-site, newName: $IMAGES/demo-site}]
K
if [ "$WHERE" != context ]; then
  capture=$(revision capture-server) site=$(revision demo-site)
  cat >>"$work/kustomization.yaml" <<K
patches:
  - target: {kind: ScreenshotService}
    patch: '[{"op": "add", "path": "/spec/restartNonce", "value": "image-$capture"}]'
  - target: {kind: Deployment}
    patch: '[{"op": "add", "path": "/spec/template/metadata/annotations", "value": {"build": "$site"}}]'
K
fi
if [ "$WHERE" = context ]; then own_namespace $NAMESPACE; fi
hack/step.sh "$step" kubectl apply -k "$work"
step=ready
hack/step.sh "$step" kubectl -n $NAMESPACE wait --for=condition=Ready shot/demo --timeout=120s ||
  { hack/report.sh $NAMESPACE; false; }
# Once it is ready its Deployment is that of this sample; it is so while pods of before are replaced, too.
step=pods
hack/step.sh "$step" kubectl -n $NAMESPACE rollout status deployment/demo --timeout=120s ||
  { hack/report.sh $NAMESPACE; false; }
step="demo site"
hack/step.sh "$step" kubectl -n $NAMESPACE rollout status deployment/demo-site --timeout=60s ||
  { hack/report.sh $NAMESPACE; false; }

step=captures
echo "== $step"
mkdir -p "$OUT"
: >"$work/forward.log" # Before it is read: what is started in the background may open it later.
kubectl -n $NAMESPACE port-forward service/demo :80 >>"$work/forward.log" 2>&1 &
forward=$!
port=
for _ in $(seq 50); do
  port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$work/forward.log" | head -n 1)
  [ -n "$port" ] && break
  sleep 0.1
done
[ -n "$port" ] || { cat "$work/forward.log" >&2; false; }

# The token goes to curl through a file that only we can read, never onto a command line.
headers=$work/headers
(umask 077 && : >"$headers")
printf 'Authorization: Bearer %s\n' "$(kubectl -n $NAMESPACE get secret demo-token -o jsonpath='{.data.token}' | base64 -d)" >"$headers"
capture() { # capture FILE JSON
  local answer=$OUT/$1 code
  # Not through a proxy of this machine, to which 127.0.0.1 is another one.
  code=$(curl -sS --noproxy '*' --max-time 60 -o "$answer" -D "$answer.headers" -w '%{http_code} in %{time_total} s' -H @"$headers" \
    -H 'Content-Type: application/json' -d "$2" "http://127.0.0.1:$port/v1/capture")
  echo "   $1: $code, $(wc -c <"$answer") bytes"
  case $code in 200*) ;; *) cat "$answer" >&2; return 1 ;; esac
}
capture scripts.png "{\"url\":\"$SITE/scripts\",\"window_width\":1280,\"window_height\":800,\"full_page\":true}"
capture long.png "{\"url\":\"$SITE/long\",\"window_width\":1280,\"window_height\":800,\"full_page\":true}"
capture metadata.png "{\"url\":\"$SITE/metadata\",\"window_width\":1280,\"window_height\":800}"
refused=$(sed -n 's/^x-capture-refusals: //Ip' "$OUT/metadata.png.headers" | tr -d '\r')
case $refused in
  *metadata_address*) echo "   what the third page was refused: $refused" ;;
  *) echo "   the third page was not refused the metadata address; refused was: ${refused:-nothing}" >&2; false ;;
esac
# What follows is for a person.
[ -z "${DEMO_TEST:-}" ] || exit 0

echo
kubectl -n $NAMESPACE get shot
echo
echo "pictures: $OUT/{scripts,long,metadata}.png   ($((SECONDS - start)) s)"
echo "next:     $by_hand -n $NAMESPACE describe shot demo"
if [ "$WHERE" = local ]; then
  echo "          the cluster ends by itself at $(date -d "$("$CLUSTER" status --json | jq -r .ends)" +%H:%M), an hour after the last make demo"
fi
echo "          edit examples/demo.yaml and $again demo again; $again demo-down removes all"
