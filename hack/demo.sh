#!/usr/bin/env bash
# From nothing to pictures: cluster, operator, a sample ScreenshotService, three captures.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh
OUT=dist/demo
NAMESPACE=shots-demo
SITE=http://demo-site.$NAMESPACE.svc.cluster.local:8080

if [ "${1:-}" = down ]; then
  if [ "$WHERE" = context ]; then kubectl delete -f examples/demo.yaml --ignore-not-found; fi
  exec hack/install.sh down
fi

trap 'echo "the demo stopped in the step above; logs: $CLUSTER logs (local cluster), kubectl -n $OPERATOR_NAMESPACE logs deploy/screenshot-operator" >&2' ERR
start=$SECONDS
hack/install.sh up
sample=$(mktemp)
sed "s#image: localhost/#image: $IMAGES/#" examples/demo.yaml >"$sample"
hack/step.sh "sample" kubectl apply -f "$sample"
rm -f "$sample"
hack/step.sh "ready" kubectl -n $NAMESPACE wait --for=condition=Ready shot/demo --timeout=120s
kubectl -n $NAMESPACE rollout status deployment/demo-site --timeout=60s >/dev/null

mkdir -p $OUT
forward_log=$(mktemp)
kubectl -n $NAMESPACE port-forward service/demo :80 >"$forward_log" 2>&1 &
forward=$!
trap 'kill $forward 2>/dev/null || true' EXIT
port=
for _ in $(seq 50); do
  port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$forward_log" | head -n 1)
  [ -n "$port" ] && break
  sleep 0.1
done
[ -n "$port" ] || { cat "$forward_log" >&2; false; }

# The token goes to curl through a file that only we can read, never onto a command line.
headers=$(mktemp)
chmod 600 "$headers"
printf 'Authorization: Bearer %s\n' "$(kubectl -n $NAMESPACE get secret demo-token -o jsonpath='{.data.token}' | base64 -d)" >"$headers"
capture() { # capture FILE JSON
  local answer=$OUT/$1 code
  code=$(curl -sS -o "$answer" -D "$answer.headers" -w '%{http_code} in %{time_total} s' -H @"$headers" \
    -H 'Content-Type: application/json' -d "$2" "http://127.0.0.1:$port/v1/capture")
  echo "   $1: $code, $(stat -c %s "$answer") bytes"
  case $code in 200*) ;; *) cat "$answer" >&2; rm -f "$headers"; return 1 ;; esac
}
echo "== captures"
capture scripts.png "{\"url\":\"$SITE/scripts\",\"window_width\":1280,\"window_height\":800}"
capture long.png "{\"url\":\"$SITE/long\",\"window_width\":1280,\"window_height\":800,\"full_page\":true}"
capture metadata.png "{\"url\":\"$SITE/metadata\",\"window_width\":1280,\"window_height\":800}"
rm -f "$headers"
echo "   what the third page was refused: $(sed -n 's/^x-capture-refusals: //Ip' $OUT/metadata.png.headers | tr -d '\r')"

echo
kubectl -n $NAMESPACE get shot
echo
echo "pictures: $PWD/$OUT/{scripts,long,metadata}.png   ($((SECONDS - start)) s)"
echo "next:     . hack/env.sh; kubectl -n $NAMESPACE describe shot demo"
echo "          edit examples/demo.yaml and apply it; make demo-down removes all"
