#!/usr/bin/env bash
# Installs the checkers that `make lint` runs, once for all checkouts: Python packages into a virtual environment, Go
# programs from their modules, promtool out of Debian's package, and schemas. Prints the directory that holds them.
#
#   hack/lint/install.sh
#
# The directory's name is made from what goes in, so one that is there is right. Must not: change the machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. hack/cache.sh
key=$({ go env GOVERSION; python3 --version; cat hack/lint/requirements.txt hack/lint/schemas.py hack/lint/install.sh hack/definitions.sh; \
    find hack/lint/third_party -type f | LC_ALL=C sort | xargs cat; } | sha256sum | cut -c1-16)
lint=$CACHE/lint/$key
if [ -e "$lint/done" ]; then
    echo "$lint"
    exit
fi
mkdir -p "$lint/bin"
exec 9>"$lint/lock"
flock 9
if [ -e "$lint/done" ]; then
    echo "$lint"
    exit
fi
# step NAME COMMAND...: on standard error, which carries progress
step() { hack/step.sh "checkers: $1" hack/quietly.sh "${@:2}" >&2; }
python() {
    python3 -m venv "$lint/venv"
    "$lint/venv/bin/pip" install --disable-pip-version-check --no-deps -r hack/lint/requirements.txt
}
programs() {
    # The flags of the test cluster's programs: other flags would compile Kubernetes' libraries a second time.
    export GOFLAGS="-trimpath -buildvcs=false" GOWORK=off CGO_ENABLED=0
    local module
    for module in hack/lint/third_party/*/; do
        (cd "$module" && go build -o "$lint/bin/" -ldflags "-s -w" tool)
    done
    # As the test cluster does it, so that the second of the two finds everything compiled.
    GOBIN=$lint/bin go install -ldflags "-s -w" helm.sh/helm/v4/cmd/helm@v4.3.1
}
promtool() {
    local work
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # of now: the name is a local one
    trap "rm -rf '$work'" EXIT
    # Unpacked, not installed: the package would start a server.
    (cd "$work" && { apt-get download prometheus || { apt-get update && apt-get download prometheus; }; } &&
        dpkg-deb -x prometheus_*.deb .)
    install -m 0755 "$work/usr/bin/promtool" "$lint/bin/promtool"
}
# The functions become a program's.
export -f python programs promtool
export lint
step "Python" bash -euo pipefail -c python
step "Go" bash -euo pipefail -c programs
step "promtool" bash -euo pipefail -c promtool
step "schemas" "$lint/venv/bin/python" hack/lint/schemas.py "$lint/schemas"
step "definitions" hack/definitions.sh "$lint/definitions"
touch "$lint/done"
echo "$lint"
