#!/bin/sh
# Proves on this machine that the test cluster works and that nothing of it stays: up, checks, the death of the kubelet and
# of pid 1, down; then an `up` killed half way, down; then a cluster that its time limit ends, and another beside it. In:
# nothing. Out: ok/FAIL lines and an exit status. It must not touch other clusters: it uses names and ports of its own.
# Takes about two minutes, one of them that limit.
# shellcheck disable=SC2317 # functions are called by name
set -u
cd "$(dirname "$0")" || exit 1
unset KUBECONFIG
# about NAME PORT: which cluster is meant from here on
about() { export CLUSTER_NAME="$1"; port=$2 state=/var/tmp/sscluster/$1; }
main() { about selftest 16555; }
limited() { about selftest-limit 16556; }
main
out=$(mktemp)
failed=0
./cluster.sh build || exit 1 # minutes the first time, which no step below has

finish() {
  limited; timeout 60 ./cluster.sh down >/dev/null 2>&1
  main; timeout 60 ./cluster.sh down >/dev/null 2>&1
  rm -f "$out" "$out.up" "$out.ns" "$out.ps" "$out.net" "$out.net.after"
}
trap finish EXIT
trap 'exit 1' INT TERM

# ok DESCRIPTION COMMAND...: the command must succeed (and end within two minutes)
ok() {
  what=$1; shift
  if timeout 120 "$@" >"$out" 2>&1; then echo "ok    $what"; else echo "FAIL  $what"; tail -n 15 "$out"; failed=1; fi
}
# no DESCRIPTION COMMAND...: the command must print nothing
no() {
  what=$1; shift
  "$@" >"$out" 2>&1
  if [ -s "$out" ]; then echo "FAIL  $what"; head -n 10 "$out"; failed=1; else echo "ok    $what"; fi
}
# late UP GOALS: what an `up` said that came after three times its goal; so many goals must be there. Time in which it waited
# for another `up` or `down` is not its own.
late() {
  awk -v goals="$2" '
    /the other one has finished$/ { waited = $1 }
    match($0, /goal: [0-9]+s/) { found++; if ($1 - waited > 3 * substr($0, RSTART + 6, RLENGTH - 7)) print }
    END { if (found != goals) print found + 0 " goals, not " goals }' "$1"
}
# The kernel gives a namespace's number to the next one made, so only a process that is in both is a left one.
in_namespaces() { readlink "$1/ns/net" "$1/ns/mnt" 2>/dev/null | tr '\n' ' '; }
note_namespaces() { in_namespaces "/proc/$(pid1)" >"$out.ns"; }
namespaces() { for p in /proc/[0-9]*; do [ "$(in_namespaces "$p")" = "$(cat "$out.ns")" ] && echo "$p"; done; }
sysctls() { (cd /proc/sys && cat vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes); }
# What the host's network is made of: links, addresses, routes, rules of routing and of the packet filter.
network() { ip -brief link; ip -brief address; ip route show table all; ip -6 route show table all; ip rule; nft list ruleset; }
# inside COMPONENT: its process's number in the cluster.
inside() { ./cluster.sh status --json | sed -n '/"name": "'"$1"'"/{n;s/.*"pid": \([0-9]*\),$/\1/p;}'; }
pid1() { ./cluster.sh status --json | sed -n 's/^  "pid": \([0-9]*\),$/\1/p'; }
processes() {
  pid1
  for f in /proc/[0-9]*/cmdline; do tr '\0' ' ' <"$f"; echo; done >"$out.ps" 2>/dev/null # before grep is one of them
  grep -E "$state/|cluster (pid1|caretaker) $CLUSTER_NAME " "$out.ps"
}
mounts() { grep -s "$state" /proc/mounts; }
cgroups() { find /sys/fs/cgroup -maxdepth 2 -name "sscluster-$CLUSTER_NAME" 2>/dev/null; }
listener() { ss -Hltn "sport = :$port"; }
nothing_left() {
  no "$1: no process" processes
  no "$1: no mount" mounts
  no "$1: no cgroup" cgroups
  no "$1: no listener" listener
  ok "$1: no state" test ! -e "$state"
  ok "$1: sysctls as before" test "$(sysctls)" = "$sysctls_before"
  no "$1: no namespace" namespaces
  network >"$out.net.after"
  ok "$1: the host's network as before" diff "$out.net" "$out.net.after"
}

ok "down with nothing there" ./cluster.sh down
sysctls_before=$(sysctls)
network >"$out.net"

ok "up" ./cluster.sh up --port "$port" --time-limit 10
cp "$out" "$out.up"
no "the node and DNS are not later than three times their goals" late "$out.up" 2
ok "its last words: DNS answers a pod" grep -q 'checked with real pods: DNS answers' "$out.up"
ok "up again changes nothing but its end" ./cluster.sh up --port "$port" --time-limit 10
ok "other options are refused while it is up" sh -c '! ./cluster.sh up --no-network-policy --port '"$port"
ok "policies can be switched off" ./cluster.sh network-policy off
ok "and then the proof by pods fails" sh -c "! ./cluster.sh check"
cp "$out" "$out.up"
ok "and says so" grep -q 'network policies do not act as they should' "$out.up"
ok "policies can be switched on" ./cluster.sh network-policy on
ok "and then it holds again" ./cluster.sh check
ok "the node is there, whatever cluster the environment names" env KUBECONFIG=/dev/null ./cluster.sh kubectl get node node-1
ok "logs show a component's last words" sh -c "./cluster.sh logs kubelet | grep -q kubelet"
ok "an image can be loaded" ./cluster.sh load "$(./cluster.sh status --json | sed -n 's/.*"binDir": "\(.*\)".*/\1/p')/../images/testapp.tar"
# Out of the node there is one way, into the namespace of the stand-ins, and out of that one there is none.
node="nsenter --target $(pid1) --mount --net"
outside="$node ip netns exec outside"
# shellcheck disable=SC2086 # lists of words
way_out() {
  $node ip -4 route show default | grep -v '^default via 10.77.0.1 dev eth0 *$'
  $outside ip -4 route show default
  $outside ip -brief link | grep -vE '^(lo|out0@[^ ]*) '
  $outside cat /proc/sys/net/ipv4/ip_forward | grep -v '^0$'
}
no "no way leads out of the node and its stand-ins" way_out
# shellcheck disable=SC2086 # a list of words
ok "the node reaches a stand-in" $node timeout 3 bash -c '</dev/tcp/203.0.113.10/80'
# shellcheck disable=SC2086 # a list of words
ok "and no other public address" sh -c "! $node timeout 2 bash -c '</dev/tcp/198.51.100.1/80'"
# shellcheck disable=SC2086 # a list of words
ok "from beside the stand-ins that fails at once" sh -c "timeout 1 $outside bash -c '</dev/tcp/198.51.100.1/80' 2>&1 | grep -q unreachable"
ok "the seccomp directory is there" test -d "$state/kubelet/seccomp"
no "the host sees no mount" mounts
note_namespaces
ok "its namespaces can be seen" test -n "$(namespaces)" -a -n "$(processes)"
nsenter --target "$(pid1)" --pid kill -9 "$(inside kubelet)"
ok "up fails when the kubelet is dead, which the API does not know yet" sh -c '! timeout 20 ./cluster.sh up --port '"$port"
cp "$out" "$out.up"
ok "and says so" grep -q 'makes a new one: kubelet ended (signal: killed)' "$out.up"
kill -9 "$(pid1)"
ok "status after the death of pid 1" sh -c './cluster.sh status | grep -q ended'
for _ in $(seq 20); do [ -z "$(processes)" ] && break; sleep 0.5; done
no "after it no process is left, without a down" processes
no "nor a cgroup" cgroups
ok "and sysctls are as before" test "$(sysctls)" = "$sysctls_before"
ok "but its logs are there" test -s "$state/logs/pid1.log"
ok "down" ./cluster.sh down
nothing_left "after down"

./cluster.sh up --port "$port" --time-limit 10 >"$out" 2>&1 &
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  sleep 0.25
  [ -n "$(pid1)" ] && break
done
sleep 1
kill -9 $! 2>/dev/null
note_namespaces
ok "an up that was killed leaves a cluster that down finds" test -n "$(pid1)"
ok "the next up starts afresh" ./cluster.sh up --control-plane-only --port "$port" --time-limit 10
ok "down" ./cluster.sh down
nothing_left "after a killed up"

limited
ok "a cluster without a policy engine comes up for two minutes, and its pods find policies ignored" ./cluster.sh up --no-network-policy --port "$port" --time-limit 2
note_namespaces
sysctls_beside=$(sysctls)
exec 7<"$state/logs/pid1.log" # its name will be gone
ok "up again gives it both minutes anew" ./cluster.sh up --no-network-policy --port "$port" --time-limit 2
main
ok "a control plane alone comes up beside it" ./cluster.sh up --control-plane-only --port "$port" --time-limit 10
cp "$out" "$out.up"
no "it is not later than three times its goal" late "$out.up" 1
no "it keeps no file that its up was given" find "/proc/$(pid1)/fd" -lname '*/selftest-limit/*'
ok "down" ./cluster.sh down
limited
ok "the one beside it stays up" test -n "$(pid1)"
ok "and so do its sysctls" test "$(sysctls)" = "$sysctls_beside"
for _ in $(seq 150); do [ -z "$(processes)" ] && [ ! -e "$state" ] && break; sleep 1; done
nothing_left "after the time limit, without a down"
ok "it said why, and the limit was the later one" grep -qE 'the time limit of 2m[1-9][0-9]?s is over' /dev/fd/7
ok "down finds nothing more" ./cluster.sh down
[ $failed = 0 ] && echo "all ok" || echo "FAILED"
exit $failed
