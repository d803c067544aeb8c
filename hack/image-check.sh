#!/usr/bin/env bash
# Looks at the capture image as a node would run it: user 65532, read-only root, no capability, no_new_privs, a tmpfs
# at /tmp, no network but its own loopback, and the seccomp profile that the chart ships; and takes a picture of the
# demo site's page of many scripts in it.
#
#   hack/image-check.sh [OUTPUT.png]        default: dist/image-check.png
#
# Chromium's own sandbox stays on; the profile is what has to permit it.
# Needs: runc, skopeo, jq, root. Must not: touch the image; it unpacks a copy into a temporary directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
output=$(realpath -m "${1:-dist/image-check.png}")
archive=dist/images/capture-server.tar
work=$(mktemp -d)
name=image-check-$$
trap 'runc --root "$work/state" delete --force "$name" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

mkdir -p "$work/layout" "$work/rootfs" "$work/out"
chmod 0755 "$work"
tar -xf "$archive" -C "$work/layout"
blob() { echo "$work/layout/blobs/sha256/${1#sha256:}"; }
manifest=$(blob "$(jq -r '.manifests[0].digest' "$work/layout/index.json")")
jq -r '.layers[].digest' "$manifest" | while read -r layer; do tar -xf "$(blob "$layer")" -C "$work/rootfs"; done

fail() { echo "image-check: $*" >&2 && exit 1; }
user=$(jq -r .config.User "$(blob "$(jq -r .config.digest "$manifest")")")
[ "$user" = 65532:65532 ] || fail "user is $user"
for program in sh bash dash dpkg apt perl; do
    found=$(find "$work/rootfs" -name "$program" -type f)
    [ -z "$found" ] || fail "the image has $found"
done
records=$(find "$work/rootfs/var/lib/dpkg/status.d" -type f | wc -l)
[ "$records" -gt 40 ] || fail "only $records dpkg records"
for program in capture-server capture-jail; do
    [ -x "$work/rootfs/usr/local/bin/$program" ] || fail "no $program"
done

# The page is opened as a file, so its style sheet has to stand in it.
sed -e '/<link rel="stylesheet"/{
r tests/site/pages/style.css
s/.*/<style>/
}' -e 's#^</head>#</style></head>#' tests/site/pages/scripts.html >"$work/out/page.html"
chown 65532:65532 "$work/out"
cd "$work"
runc spec
profile=$OLDPWD/charts/screenshot-operator/files/capture-jail-$(uname -m).json
jq --slurpfile profile "$profile" '.linux.seccomp = $profile[0] | .process.terminal = false | .process.user = {uid: 65532, gid: 65532} | .process.cwd = "/"
    | .process.capabilities = {} | .process.noNewPrivileges = true | .root.readonly = true
    | .process.env = ["PATH=/usr/local/bin", "HOME=/tmp", "LANG=C.UTF-8", "FONTCONFIG_PATH=/etc/fonts"]
    | .process.args = ["/usr/lib/chromium/chromium-headless-shell", "--disable-gpu", "--hide-scrollbars",
        "--window-size=1280,1010", "--user-data-dir=/tmp/profile", "--screenshot=/out/page.png", "file:///out/page.html"]
    | .mounts += [
        {destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["nosuid", "nodev", "mode=1777", "size=256m"]},
        {destination: "/out", type: "bind", source: "'"$work"'/out", options: ["bind", "rw"]}]
    | del(.linux.resources)' config.json >config.new
mv config.new config.json
start=$(date +%s%N)
timeout 60 runc --root "$work/state" run "$name" >"$work/log" 2>&1 || { cat "$work/log" >&2 && fail "the browser failed"; }
took=$((($(date +%s%N) - start) / 1000000))
[ -s out/page.png ] || { cat "$work/log" >&2 && fail "no picture"; }
mkdir -p "$(dirname "$output")"
install -m 0644 out/page.png "$output"
echo "image-check: $records packages, picture in $took ms: $output"
