#!/usr/bin/env bash
# The benchmark of the capture server: builds as the images are built, and measures in a network namespace of its own.
#
#   hack/bench-capture.sh [--quick] [--rounds N] [--only PREFIX]...     the arguments of `screenshot-bench run`
#
# Out: tables, target/bench/capture.json. The site is served on a private address that only this namespace has, and the
# namespace has no route: nothing that is measured can leave the machine. docs/benchmarks.md says how to read it.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/cache.sh
site=192.168.77.10
# As hack/images.sh builds them on a development machine, so that they are built once. A release is compiled with more care
# (PROFILE=release): its own code is a small part of what a capture costs.
programs=$(hack/programs.sh capture-server capture-jail screenshot-bench)
bench=("$programs/screenshot-bench" run --site "$site:8088" --programs "$programs" "$@")
# shellcheck disable=SC2016 # the inner shell's own arguments
enter='ip link set lo up && ip address add "$0/32" dev lo && exec "$@"'
if [ "$(id -u)" = 0 ]; then
  exec unshare --net sh -c "$enter" "$site" "${bench[@]}"
fi
# Back to the caller's own ids inside, so that the programs do not take themselves for root.
exec unshare --map-root-user --net sh -c "$enter" "$site" \
  unshare --user --map-user="$(id -u)" --map-group="$(id -g)" "${bench[@]}"
