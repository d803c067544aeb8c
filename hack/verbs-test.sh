#!/usr/bin/env bash
# What the verbs promise of another's cluster, of the demo's, of failures and of progress: with CONTEXT every call goes to that context and
# to no other, `down` removes what `up` made, a failure says what and why and leaves no token behind.
# The tests leave the demo's cluster alone. The programs are recorders here; what is asserted is every call they got and every word that was said.
#   verbs-test.sh
set -euo pipefail
cd "$(dirname "$0")/.."
project=$PWD
# All figures are the whole benchmark, unless somebody says otherwise; the captures' alone are the short one.
benchmark() {
  local wanted=$1 calls
  shift
  calls=$(env -u BENCH_ARGS make -n "$@")
  grep -qx "hack/bench-capture.sh $wanted" <<<"$calls" || { echo "verbs: make $* is not: $wanted" >&2; exit 1; }
}
benchmark '--whole --soak 1000' bench
benchmark --quick bench BENCH_ARGS=--quick
benchmark '' bench-capture
grep -q '^test-e2e ' <<<"$(make -s help)" || { echo "verbs: make help does not list test-e2e" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A copy, as these scripts write below the project's root.
mkdir -p "$work/bin" "$work/tmp" "$work/project"
cp -R hack examples "$work/project/"
cd "$work/project"

# FAILS is the beginning of a call that fails; REFUSALS is the header of every picture; RELEASE says whose release is there, or
# that somebody's is pending, which helm shows to who asks for it.
cat >"$work/bin/recorder" <<'R'
#!/usr/bin/env bash
call="$(basename "$0") $*"
echo "$call" >>"$CALLS"
case $call in *"apply -k"*) cp "${*: -1}/kustomization.yaml" "$CALLS.sample" ;; esac
case $call in kubectl* | helm*) echo "${KUBECONFIG:-}" >>"$CALLS.clusters" ;; esac
[ -z "${FAILS:-}" ] || case $call in *"$FAILS"*) echo "$FAILS: refused by the test" >&2; exit 7 ;; esac
case $call in
  curl*)
    while [ $# -gt 0 ]; do
      case $1 in -o) printf '\x89PNG\r\n\x1a\n' >"$2" ;; -D) printf 'HTTP/1.1 200 OK\r\nX-Capture-Refusals: %s\r\n' "$REFUSALS" >"$2" ;; esac
      shift
    done
    printf '200 in 0.1 s' ;;
  *port-forward*) echo 'Forwarding from 127.0.0.1:4711 -> 8080' && echo $$ >>"$CALLS.forwards" && exec sleep 300 ;;
  *get\ secret*) printf '%s' "$TOKEN" | base64 ;;
  *get\ namespace\ kube-system*) echo "uid $KUBECONFIG" | md5sum | cut -c1-8 ;;
  *get\ namespace*--selector*) [ -n "${FOREIGN:-}" ] || echo namespace/shots-demo ;;
  *get\ namespace*) [ -n "${THERE:-}" ] ;;
  helm*list*--selector*) [ "${RELEASE:-}" != made ] || echo screenshot-operator ;;
  helm*list*--pending*) [ -z "${RELEASE:-}" ] || echo screenshot-operator ;;
  helm*list*) case ${RELEASE:-} in made | theirs) echo screenshot-operator ;; esac ;;
  apt-get*update*) touch "$CALLS.updated" ;;
  apt-get*) [ -e "$CALLS.updated" ] && archives=${call##*Archives=} && touch "${archives%% *}/redis.deb" ;;
  dpkg-deb*) mkdir -p "$3/usr/bin" && cp "$0" "$3/usr/bin/redis-server" ;;
  *conditions*) echo 'Ready=False PodsNotReady: no capture pod is ready yet' ;;
  *get\ deployments*) echo 'pod/demo-1 Pending' ;;
  *get\ events*) echo 'FailedScheduling no node has room' ;;
esac
R
chmod +x "$work/bin/recorder"
for program in kubectl helm curl docker podman kind buildah cargo go; do cp "$work/bin/recorder" "$work/bin/$program"; done
export CALLS=$work/calls TMPDIR=$work/tmp XDG_CACHE_HOME=$work/cache CARGO_TARGET_DIR=$work/target
export TOKEN=sst_only_for_this_test REFUSALS='169.254.169.254:80;metadata_address'
unset KUBECONFIG CONTEXT IMAGES CLUSTER_NAME CLUSTER_PORT DEMO_OUT DEMO_TEST ONLY_DOWN SHOT_KEEP

fail() { echo "verbs: $*" >&2; cat "$CALLS" "$work/out" >&2; exit 1; }
called() { grep -qE -- "$1" "$CALLS" || fail "no call: $1"; }
says() { grep -qF -- "$1" "$work/out" || fail "it does not say: $1"; }
# run EXPECTED-STATUS SCRIPT...: with CONTEXT=theirs; looks at what holds however it ends.
run() {
  local wanted=$1 code=0 forward
  shift
  rm -f "$CALLS" "$CALLS.forwards" && touch "$CALLS" "$CALLS.forwards"
  CONTEXT=theirs IMAGES=registry.example PATH=$work/bin:$PATH "$@" >"$work/out" 2>&1 || code=$?
  [ $((code != 0)) -eq "$wanted" ] || fail "$* ended with $code"
  if grep -vE '^(kubectl --context theirs |helm --kube-context theirs |curl |cargo nextest )' "$CALLS"; then fail "these calls go elsewhere"; fi
  if grep -F "$TOKEN" "$CALLS" "$work/out"; then fail "the token is shown"; fi
  if grep -rlF "$TOKEN" "$work/tmp"; then fail "the token is left in a file"; fi
  while read -r forward; do
    for _ in $(seq 20); do kill -0 "$forward" 2>/dev/null || continue 2; sleep 0.1; done
    fail "a port-forward is left"
  done <"$CALLS.forwards"
}

run 0 hack/tools.sh demo
# Of Go it asks for what the modules ask for, before anything is installed, and says how an older one gets it.
mkdir "$work/go"
cat >"$work/go/go" <<'G'
#!/usr/bin/env bash
case $* in "env GOVERSION") echo "go$GO" ;; esac
G
printf '#!/bin/sh\necho install ok installed\n' >"$work/go/dpkg-query"
tee "$work/go/uname" >"$work/go/id" <<'I'
#!/bin/sh
case $1 in -u) echo 0 ;; *) echo Linux ;; esac
I
chmod +x "$work"/go/*
newest=$(cd "$project" && find hack tests -name go.mod -exec sed -n 's/^go //p' {} + | sort -V | tail -n 1)
# It runs in the project itself, whose files hack/cache.sh must not take for another checkout's.
mkdir "$work/go-target" && echo "$project" >"$work/go-target/checkout"
with_go() {
  (cd "$project" && CARGO_TARGET_DIR=$work/go-target GO=$1 PATH=$work/go:$work/bin:$PATH hack/tools.sh demo >"$work/out" 2>&1)
}
with_go "$newest" || fail "Go $newest is not new enough"
with_go "${newest%.*}.1000" || fail "a newer Go is not new enough"
if with_go "${newest%.*}.0"; then fail "a module asks for Go $newest, and an older one passes"; fi
says "please install Go $newest or newer first: this is go${newest%.*}.0" && says "go env -w GOTOOLCHAIN=go$newest"
# Cargo's tools are the user's where they are new enough: only an older one is replaced.
cat >"$work/go/cargo" <<'G'
#!/usr/bin/env bash
case $* in
  "nextest --version") [ -z "$NEXTEST" ] || printf 'cargo-nextest %s (60fa45f63 2026-08-04)\nrelease: %s\n' "$NEXTEST" "$NEXTEST" ;;
  "deny --version") echo "cargo-deny 99.0.0" ;;
  *) echo "cargo $*" >>"$CALLS" ;;
esac
G
chmod +x "$work/go/cargo"
with_nextest() {
  : >"$CALLS"
  (cd "$project" && CARGO_TARGET_DIR=$work/go-target GO=$newest NEXTEST=$1 PATH=$work/go:$work/bin:$PATH hack/tools.sh >"$work/out" 2>&1) ||
    fail "tools.sh ended with $?"
}
pinned=$(sed -n 's/.*nextest \([0-9]\+\.[0-9.]*\).*/\1/p' hack/tools.sh)
for version in "$pinned" "$pinned.1" 10.0.0; do
  with_nextest "$version"
  if grep ' install ' "$CALLS"; then fail "cargo-nextest $version is replaced by $pinned"; fi
done
for version in '' 0.9.9; do
  with_nextest "$version"
  [ "$(grep -c ' install ' "$CALLS")" -eq 1 ] || fail "not one tool is installed"
  called "^cargo install -q cargo-nextest .*--version $pinned( |$)"
done
run 0 hack/demo.sh
called '^helm --kube-context theirs upgrade --install screenshot-operator .*--set image.repository=registry.example/screenshot-operator '
called '^kubectl --context theirs create namespace screenshot-operator '
called '^kubectl --context theirs create namespace shots-demo '
called '^kubectl --context theirs label namespace shots-demo screenshot-operator.io/made-for=shots-demo$'
called '^kubectl --context theirs apply -k '
grep -qF 'newName: registry.example/demo-site' "$CALLS.sample" || fail "the site's image is not from the registry"
if grep -F restartNonce "$CALLS.sample"; then fail "the sample is restarted for an image that nobody here knows"; fi
called '^kubectl --context theirs -n shots-demo wait --for=condition=Ready shot/demo '
called '^kubectl --context theirs -n shots-demo rollout status deployment/demo '
[ "$(grep -c '^curl .*--noproxy \* --max-time 60 ' "$CALLS")" -eq 3 ] || fail "not three pictures, straight and in time"
called '^kubectl --context theirs -n shots-demo get shot$'
says "pictures: $PWD/dist/demo/{scripts,long,metadata}.png"
says 'metadata_address' && says 'next:     kubectl --context theirs -n shots-demo describe shot demo'
says 'and CONTEXT=theirs IMAGES=registry.example make demo again; CONTEXT=theirs IMAGES=registry.example make demo-down removes all'
called '^helm --kube-context theirs upgrade --install screenshot-operator .*--labels screenshot-operator.io/made-for='
RELEASE=made THERE=1 run 0 hack/demo.sh
if grep -E 'create namespace|label namespace' "$CALLS"; then fail "a namespace that was there is taken for the demo's own"; fi

RELEASE=made run 0 hack/demo.sh down
grep -v ' list ' "$CALLS" >"$work/changes" || true
diff - "$work/changes" <<'C' || fail "down does something else"
kubectl --context theirs delete namespace --selector screenshot-operator.io/made-for=shots-demo --ignore-not-found
helm --kube-context theirs uninstall screenshot-operator --namespace screenshot-operator --ignore-not-found
kubectl --context theirs delete namespace --selector screenshot-operator.io/made-for=screenshot-operator --ignore-not-found
C

# Also where the definition of the kind was removed first, as `down` itself says how: then no file with a service can be read.
FAILS=examples/demo.yaml RELEASE=made run 0 hack/demo.sh down
called '^kubectl --context theirs delete namespace --selector screenshot-operator.io/made-for=shots-demo --ignore-not-found$'
called '^helm --kube-context theirs uninstall screenshot-operator '

# A directory for the pictures is somebody's: what else is in it stays.
mkdir "$work/pictures" && touch "$work/pictures/theirs.png"
DEMO_OUT=$work/pictures run 0 hack/demo.sh
says "pictures: $work/pictures/{scripts,long,metadata}.png" && says 'next: '
says "DEMO_OUT=$work/pictures CONTEXT=theirs IMAGES=registry.example make demo-down removes all"
[ "$(find "$work/pictures" -type f | wc -l)" -eq 7 ] || fail "the pictures are elsewhere"
DEMO_OUT=$work/pictures RELEASE=made run 0 hack/demo.sh down
[ "$(ls "$work/pictures")" = theirs.png ] || fail "of a directory with something else in it there is now: $(ls "$work/pictures")"
if [ -e dist/demo ]; then fail "the demo's own directory of pictures is left"; fi

# A namespace of the demo's name that it did not make is somebody's.
THERE=1 FOREIGN=1 RELEASE=made run 1 hack/demo.sh
says 'has a namespace shots-demo that this demo did not make'
if grep -E ' (upgrade|apply|create|label) ' "$CALLS"; then fail "a namespace of somebody else's is used"; fi

# An operator that somebody else installed, or is about to, is neither replaced nor removed, nor is one that cannot be asked for.
untouched() { if grep -E ' (upgrade|apply|create|label|uninstall|delete) ' "$CALLS"; then fail "something of somebody else's is touched"; fi; }
for whose in theirs pending; do
  RELEASE=$whose run 1 hack/demo.sh
  says 'has a release screenshot-operator in the namespace screenshot-operator that this project' && untouched
  RELEASE=$whose run 0 hack/install.sh down
  says 'and stays' && untouched
done
for command in demo.sh 'install.sh down'; do
  # shellcheck disable=SC2086 # words
  FAILS='helm --kube-context theirs list' RELEASE=theirs run 1 hack/$command
  says 'refused by the test' && untouched
done
# A namespace of the demo's name that the demo did not make stays, too.
RELEASE=theirs run 0 hack/demo.sh down
if grep -E ' (uninstall|delete) ' "$CALLS" | grep -vF 'delete namespace --selector screenshot-operator.io/made-for=shots-demo '; then
  fail "the end of the demo removes something of somebody else's"
fi
# The end-to-end suite leaves what was there, and runs no test that takes something from another's cluster.
RELEASE=made run 0 hack/test-e2e.sh
if grep ' uninstall ' "$CALLS"; then fail "the suite removes an operator that was there before"; fi
RELEASE='' run 0 hack/test-e2e.sh
called '^helm --kube-context theirs uninstall screenshot-operator '
called "^cargo nextest run .*not test\\(/.*\\|network\\|.*\\^alone::\\(node\\|operator"

# Whatever fails, the step is named and the reason is there.
FAILS='helm --kube-context theirs upgrade' run 1 hack/demo.sh
says 'in the step "cluster, images and operator"' && says 'no node has room' && says 'demo-1 Pending'
FAILS='wait --for=condition=Ready' run 1 hack/demo.sh
says 'in the step "ready"' && says 'Ready=False PodsNotReady' && says 'demo-1 Pending' && says 'no node has room'
FAILS='curl ' run 1 hack/demo.sh
says 'in the step "captures"' && says 'refused by the test' && says 'kubectl --context theirs -n screenshot-operator logs deploy/screenshot-operator'
REFUSALS='' run 1 hack/demo.sh
says 'not refused the metadata address; refused was: nothing' && says 'in the step "captures"'

# On this machine the suite has a cluster beside the demo's, which it neither uses nor ends: by its name, its kubeconfig, its
# port and the marks of what images it has; and the demo's pictures are not written over.
mkdir -p tests/cluster "$work/up" "$work/local"
cat >tests/cluster/cluster.sh <<'C'
#!/usr/bin/env bash
echo "$*" >>"$CALLS.cluster"
name=${CLUSTER_NAME:-dev}
case $* in
  path) echo "$BIN" ;;
  kubeconfig) echo "/of/$name" ;;
  "status --json") echo "{\"ends\": \"2026-01-01T15:04:05.678Z\", \"stateDir\": \"/of/$name\"}" ;;
  status) if [ -e "$UP/$name" ]; then echo "cluster $name: up for 5s"; else echo "cluster $name: none"; fi ;;
  *)
    echo "$name $*" >>"$CALLS"
    case $1 in up) touch "$UP/$name" ;; down) rm "$UP/$name" ;; esac ;;
esac
C
cat >hack/images.sh <<'I'
#!/usr/bin/env bash
mkdir -p dist/images
for image in screenshot-operator capture-server demo-site; do echo "${BUILT:-first} $image" >dist/images/$image.tar; done
I
echo >hack/e2e_audit.py
cat >"$work/local/uname" <<'U'
#!/bin/sh
case $1 in -m) echo x86_64 ;; *) echo Linux ;; esac
U
printf '#!/bin/sh\necho 0\n' >"$work/local/id"
chmod +x tests/cluster/cluster.sh "$work/local/uname" "$work/local/id"
# Where the clusters' states are, which here is where this stub has its own.
states=$(sed -n 's/^const Base = "\(.*\)"$/\1/p' "$project/tests/cluster/internal/layout/layout.go")
grep -qF "\"$states/" hack/demo.sh || fail "the states of clusters are in $states, and hack/demo.sh looks elsewhere"
sed -i "s|$states/|$work/up/|" hack/demo.sh
locally() { # locally COMMAND...: as root on Linux, and without CONTEXT
  : >"$CALLS" && rm -f "$CALLS.clusters"
  BIN=$work/bin UP=$work/up PATH=$work/local:$work/bin:$PATH "$@" >"$work/out" 2>&1 || fail "$* ended with $?"
}
only() { # only NAME: no other cluster was spoken to
  [ "$(sort -u "$CALLS.clusters")" = "/of/$1" ] || fail "another cluster than $1 is used: $(sort -u "$CALLS.clusters")"
}
locally hack/demo.sh
only dev
called '^dev up --port 16443$' && called '^dev load dist/images/capture-server.tar$'
says '. hack/env.sh; kubectl -n shots-demo describe shot demo' && says 'edit examples/demo.yaml and make demo again; make demo-down removes all'
says "the cluster ends by itself at $(date -d 2026-01-01T15:04:05Z +%H:%M), an hour after the last make demo"
rm dist/demo/long.png
locally hack/test-e2e.sh
only e2e
called '^e2e up --port 16447$' && called '^e2e load dist/images/capture-server.tar$' && called '^e2e down$'
if grep -F pictures: "$work/out"; then fail "the suite's demo goes on after the pictures"; fi
if grep -E '^dev ' "$CALLS"; then fail "the suite touches the demo's cluster"; fi
if [ -e dist/demo/long.png ]; then fail "the suite writes over the demo's pictures"; fi
[ -e "$work/up/dev" ] || fail "the demo's cluster has ended"
restarts() { grep -F "$1" "$CALLS.sample" | md5sum; }
first=$(restarts restartNonce) site=$(restarts build)
locally hack/demo.sh
if grep -E ' load ' "$CALLS"; then fail "the demo's node is given what it has"; fi
[ "$(restarts restartNonce) $(restarts build)" = "$first $site" ] || fail "pods of the demo are replaced for nothing"
# A rebuilt image has the name of the one before: pods are replaced because the sample says so.
BUILT=second locally hack/demo.sh
called '^dev load dist/images/capture-server.tar$'
[ "$(restarts restartNonce)" != "$first" ] || fail "pods keep the capture server of before"
[ "$(restarts build)" != "$site" ] || fail "pods keep the demo site of before"
# A cluster that an earlier run was told to leave is used, and left.
SHOT_KEEP=1 locally hack/test-e2e.sh
locally hack/test-e2e.sh
if grep -E ' (load|down)' "$CALLS"; then fail "a cluster that was there is not left as it was"; fi
locally hack/demo.sh down
called '^dev down$'
[ -e "$work/up/e2e" ] || fail "the end of the demo ends the suite's cluster"
# To end a cluster nothing is built: there is none, or the cluster's program that was used last ends it.
rm "$CALLS.cluster"
locally hack/demo.sh down
says 'there is no cluster dev'
programs=$XDG_CACHE_HOME/screenshot-operator/cluster
mkdir -p "$programs"/{before,last}/bin
cp "$work/bin/recorder" "$programs/last/bin/cluster-0123456789abcdef"
cp "$work/bin/recorder" "$programs/before/bin/cluster-fedcba9876543210"
touch -d yesterday "$programs/before/bin/"*
touch "$work/up/dev"
locally hack/demo.sh down
called '^cluster-0123456789abcdef down$'
[ ! -e "$CALLS.cluster" ] || fail "these calls may have built the cluster's program: $(cat "$CALLS.cluster")"

# Argo CD's redis-server is unpacked, once, and not installed. Here is everything but that one; and no list of packages yet.
mkdir "$work/without"
for directory in /bin /usr/bin; do ln -sf "$directory"/* "$work/without/"; done
rm -f "$work/without"/redis-*
for program in apt-get dpkg-deb; do cp "$work/bin/recorder" "$work/local/$program"; done
argocd() { # until it builds, which it cannot here
  : >"$CALLS"
  if BIN=$work/bin UP=$work/up PATH=$work/local:$work/bin:$work/without hack/test-argocd.sh >"$work/out" 2>&1; then fail "it has built"; fi
  called '^redis-server --version$' && called '^go env GOVERSION$'
}
argocd
called '^apt-get install .*--download-only ' && called '^apt-get update'
if grep '^apt-get install' "$CALLS" | grep -v -- --download-only; then fail "a server is installed"; fi
argocd
if grep '^apt-get' "$CALLS"; then fail "what is there is fetched again"; fi

# A step gives signs of life, and they end with it: by itself, by a failure, by Ctrl-C and by a kill.
shows() { [ "$(grep -c 'still waits' "$work/out")" -ge 1 ] || fail "no sign of life"; }
STEP_EVERY=1 hack/step.sh waits sleep 1.5 >"$work/out" && shows
if STEP_EVERY=1 hack/step.sh waits sh -c 'sleep 1.5; exit 3' >"$work/out" 2>&1; then fail "a failure passes"; fi
shows && says 'waits: FAILED with 3'
for signal in INT KILL; do
  # A process group of its own, of which a terminal's Ctrl-C reaches every process, and a kill the first alone.
  # What runs in the background of a script ignores INT, and so would all that it starts.
  target=$(set -m; STEP_EVERY=1 env --default-signal=INT hack/step.sh waits sleep 30 >"$work/out" 2>&1 & echo $!)
  sleep 1.5
  if [ $signal = INT ]; then kill -INT -- "-$target"; else kill -KILL "$target"; fi
  sleep 1.2
  shows
  lines=$(wc -l <"$work/out")
  sleep 1.5
  [ "$(wc -l <"$work/out")" -eq "$lines" ] || fail "it still says that it waits after SIG$signal"
  kill -KILL -- "-$target" 2>/dev/null || true
done

# The summary of all tests names what failed, and what passed at a second try only.
cat >"$work/bin/make" <<'M'
#!/usr/bin/env bash
case "$*" in
  "-s suites") printf 'good | shaky\nbad\n' ;;
  "-s shaky") printf '  TRY 2 PASS [   0.1s] (2/2) some-tests e2e::second\n   FLAKY 2/2 [   0.1s] (2/2) some-tests e2e::second\n' ;;
  "-s bad") exit 1 ;;
esac
M
chmod +x "$work/bin/make"
if PATH=$work/bin:$PATH hack/test.sh >"$work/out" 2>&1; then fail "a failed suite passes"; fi
for line in '^good +ok ' '^shaky +ok ' '^  second try: +some-tests e2e::second$' '^bad +FAILED ' \
  '^suites: 2 passed, 1 failed, .*second try: 1$'; do
  grep -qE "$line" "$work/out" || fail "the summary has no line $line"
done
# A build inside of the images sees exactly the sources that every other build of the images' programs is made from, which
# is a copy of just these: what is missing there is missed at once.
copied=$(sed -n '/^rsync/,/source/p' hack/programs.sh | grep -oE '(Cargo\.[a-z]+|crds|operator|capture-server|tests)( |$)' | tr -d ' ' | sort -u)
for part in operator capture-server; do
  seen=$(sed -n 's/^!//p' "$project/$part/Containerfile.dockerignore" | grep -vx dist/bin | sort)
  [ "$seen" = "$copied" ] || fail "$part's image build sees $(paste -sd ' ' <<<"$seen"), hack/programs.sh copies $(paste -sd ' ' <<<"$copied")"
done
# What is compiled inside of an image, which only kind does, is what hack/images.sh asks hack/programs.sh for, with its flags.
mapfile -t flags < <(grep -oE 'RUSTFLAGS="[^"]+"|cargo build --locked|-unknown-linux-gnu' hack/programs.sh)
[ ${#flags[@]} -eq 3 ] || fail "hack/programs.sh has other flags: ${flags[*]}"
for part in operator capture-server; do
  stage=$(awk '/^FROM / { inside = / AS compiled$/ } inside' "$project/$part/Containerfile")
  programs=$(sed -n "/^image_${part%-server}()/,/^}/s/^ *cargo_programs //p" "$project/hack/images.sh")
  [ "$(grep -oE -- '-p [a-z-]+' <<<"$stage" | cut -c 4- | paste -sd ' ')" = "$programs" ] || fail "$part's image build does not compile: $programs"
  [ "$(grep -oE 'release/[a-z-]+' <<<"$stage" | cut -c 9- | paste -sd ' ')" = "$programs" ] || fail "$part's image build does not take: $programs"
  # Not hack/programs.sh's own profile, which is for who builds again and again.
  for flag in "${flags[@]}" --release; do grep -qF -- "$flag" <<<"$stage" || fail "$part's image build is without $flag"; done
done
# What speaks to this machine's own ports does not go through a proxy, and does not wait for ever.
if grep -E '(^ *|\()curl ' hack/demo.sh hack/bench-*.sh | grep -vF -- "--noproxy '*' --max-time"; then fail "a call of curl may wait, or go elsewhere"; fi
echo "verbs: ok"
