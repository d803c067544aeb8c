#!/usr/bin/env bash
# Looks at the capture image as a node would run it: user 65532, read-only root, no capability, no_new_privs, a tmpfs
# at /tmp, no network but its own loopback, and the seccomp profile that the chart ships; and takes a picture of the
# demo site's page of many scripts in it. Each font has its glyphs, none is looked for anew. Every image has its labels and
# a user that is not root; operator and demo site are one static program each, without a shell. Builds left nothing mounted.
#
#   hack/image-check.sh [OUTPUT.png]        default: dist/image-check.png
#   hack/image-check.sh --mutate            takes away each font, the cache, a label and the user, and adds a shell and a
#                                           container that a build has left: each must be found
#
# Chromium's own sandbox stays on; the profile is what has to permit it.
# Needs: runc, buildah, jq, readelf, root. Must not: touch the image; it unpacks a copy into a temporary directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mutate=0
if [ "${1:-}" = --mutate ]; then mutate=1 && shift; fi
output=$(realpath -m "${1:-dist/image-check.png}")
images=$PWD/dist/images
. hack/cache.sh
export CONTAINERS_STORAGE_CONF=$CACHE/images/storage.conf
work=$(mktemp -d)
name=image-check-$$
trap 'runc --root "$work/state" delete --force "$name" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

mkdir -p "$work/rootfs" "$work/out" "$work/home"
chmod 0755 "$work"
fail() { echo "image-check: $*" >&2 && exit 1; }

# left: says which containers builds have left in the store, while none runs
left() { buildah containers --format '{{.ContainerName}}' | sed 's/ *$/ is left by a build/'; }
exec 9>"$CACHE/images/lock"
flock -w 3600 9 || fail "another build of images has run for an hour"
found=$(left)
[ -z "$found" ] || fail "$found"
if [ $mutate -eq 1 ]; then
    forgotten=$(buildah from --pull-never scratch)
    found=$(left)
    buildah rm "$forgotten" >/dev/null
    [ "$found" = "$forgotten is left by a build" ] || fail "a container that a build has left is not noticed"
fi
exec 9>&-

layout=
blob() { echo "$layout/blobs/sha256/${1#sha256:}"; }
open_image() { # open_image NAME: sets layout and manifest
    layout=$work/layout-$1
    mkdir "$layout"
    tar -xf "$images/$1.tar" -C "$layout"
    manifest=$(blob "$(jq -r '.manifests[0].digest' "$layout/index.json")")
}
# labels NAME CONFIG: says which of the OCI annotations are not there or empty
labels() {
    jq -r --arg name "$1" '(.config.Labels // {}) as $labels
        | "title", "description", "licenses", "version", "revision"
        | select(($labels["org.opencontainers.image." + .] // "") == "") | "\($name) has no label \(.)"' "$2"
}
# identity NAME CONFIG: says who its programs run as, unless that is a numeric user and group other than root's
identity() {
    jq -r --arg name "$1" '(.config.User // "") | select(test("^[1-9][0-9]*:[1-9][0-9]*$") | not)
        | "\($name) runs as \"\(.)\""' "$2"
}
# beside NAME CONFIG: of an image from scratch, says which programs there are but the one it runs, and whether that one needs
# others' files
beside() {
    local file own
    own=.$(jq -r '.config.Entrypoint[0]' "$2")
    [ -x "$work/root-$1/$own" ] || echo "$1 has no program"
    while read -r file; do
        if [ "$file" != "$own" ]; then
            echo "$1 has the program $file"
        elif readelf -lW "$work/root-$1/$file" | grep -q INTERP; then
            echo "$1's program is not static"
        fi
    done < <(cd "$work/root-$1" && find . -type f -perm /111)
}
unpack() { # unpack DIRECTORY: the image that was opened last
    mkdir -p "$1"
    jq -r '.layers[].digest' "$manifest" | while read -r layer; do tar -xf "$(blob "$layer")" -C "$1"; done
}
for name_of in screenshot-operator demo-site capture-server; do
    open_image "$name_of"
    config=$(blob "$(jq -r .config.digest "$manifest")")
    cp "$config" "$work/config-$name_of"
    found=$(labels "$name_of" "$config"; identity "$name_of" "$config")
    if [ "$name_of" != capture-server ]; then
        unpack "$work/root-$name_of"
        found+=$(beside "$name_of" "$config")
    fi
    [ -z "$found" ] || fail "$found"
done
unpack "$work/rootfs"

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
cp hack/image-glyphs.html "$work/out/glyphs.html"
chown 65532:65532 "$work/out" "$work/home"
cd "$work"
runc spec
profile=$OLDPWD/charts/screenshot-operator/files/capture-jail-$(uname -m).json
jq --slurpfile profile "$profile" '.linux.seccomp = $profile[0] | .process.terminal = false | .process.user = {uid: 65532, gid: 65532} | .process.cwd = "/"
    | .process.capabilities = {} | .process.noNewPrivileges = true | .root.readonly = true
    | .process.env = ["PATH=/usr/local/bin", "HOME=/home/nonroot", "LANG=C.UTF-8", "FONTCONFIG_PATH=/etc/fonts"]
    | .mounts += [
        {destination: "/tmp", type: "tmpfs", source: "tmpfs", options: ["nosuid", "nodev", "mode=1777", "size=256m"]},
        {destination: "/home/nonroot", type: "bind", source: "'"$work"'/home", options: ["bind", "rw"]},
        {destination: "/out", type: "bind", source: "'"$work"'/out", options: ["bind", "rw"]}]
    | del(.linux.resources)' config.json >config.new
mv config.new config.json
# browse SWITCH PAGE: runs the image's browser; what it prints is in $work/log.
browse() {
    jq --arg switch "$1" --arg page "$2" '.process.args = ["/usr/lib/chromium/chromium-headless-shell", "--disable-gpu", "--hide-scrollbars",
        "--window-size=1280,1010", "--user-data-dir=/tmp/profile", $switch, $page]' config.json >config.new
    mv config.new config.json
    timeout 60 runc --root "$work/state" run "$name" >"$work/log" 2>&1 || { cat "$work/log" >&2 && fail "the browser failed"; }
}
# fonts: says which scripts and families the image draws as what is missing, and which caches the browser made itself
fonts() {
    find "$work/home" -mindepth 1 -delete
    browse --dump-dom file:///out/glyphs.html
    grep -q '^<p id="done">' "$work/log" || { cat "$work/log" >&2 && fail "the page of glyphs was not drawn"; }
    sed -n 's/^<p class="missing">\([^<]*\)<.*/\1/p' "$work/log"
    find "$work/home" -name '*.cache-*' | head -n 1 | sed 's/.*/the cache of fonts does not hold: one was made/'
}
found=$(fonts)
[ -z "$found" ] || fail "$found"

# lost WORDS PATTERN: without the files of this pattern the image is found to lack what the words say
lost() {
    local words=$1 pattern=$2 kept=$work/kept
    mkdir "$kept"
    (cd rootfs && find . -type f -path "$pattern" -exec cp -a --parents -t "$kept" {} + && find . -type f -path "$pattern" -delete)
    [ -n "$(find "$kept" -type f)" ] || fail "there is nothing like $pattern"
    found=$(fonts)
    cp -a "$kept/." rootfs/ && rm -rf "$kept"
    grep -qxF "$words" <<<"$found" || fail "without $pattern there is nothing of: $words"
    echo "image-check: without $pattern: $(paste -sd ';' <<<"$found")"
}
if [ $mutate -eq 1 ]; then
    lost "the cache of fonts does not hold: one was made" './var/cache/fontconfig/*'
    lost "no family Liberation Sans" './usr/share/fonts/truetype/liberation*'
    lost "no glyphs for Arabic" './usr/share/fonts/truetype/noto/Noto[^C]*'
    lost "no glyphs for Chinese" './usr/share/fonts/opentype/noto/*CJK*'
    lost "no glyphs for emoji" './usr/share/fonts/truetype/noto/NotoColorEmoji*'
    jq 'del(.config.Labels["org.opencontainers.image.revision"])' "$config" >"$work/unlabelled"
    [ "$(labels capture-server "$work/unlabelled")" = "capture-server has no label revision" ] || fail "a label is not missed"
    jq '.config.User = "root"' "$config" >"$work/privileged"
    [ "$(identity capture-server "$work/privileged")" = 'capture-server runs as "root"' ] || fail "root is not noticed"
    jq 'del(.config.User)' "$config" >"$work/privileged"
    [ "$(identity capture-server "$work/privileged")" = 'capture-server runs as ""' ] || fail "a missing user is not noticed"
    install -D -m 0755 /bin/sh "$work/root-screenshot-operator/bin/sh"
    cp /bin/sh "$work/root-screenshot-operator/usr/local/bin/screenshot-operator"
    [ "$(beside screenshot-operator "$work/config-screenshot-operator" | LC_ALL=C sort)" = "screenshot-operator has the program ./bin/sh
screenshot-operator's program is not static" ] || fail "a shell, or a program that needs libraries, is not noticed"
    echo "image-check: without the label, as root, with a shell, with a program that needs libraries: found"
fi

start=$(date +%s%N)
browse --screenshot=/out/page.png file:///out/page.html
took=$((($(date +%s%N) - start) / 1000000))
[ -s out/page.png ] || { cat "$work/log" >&2 && fail "no picture"; }
mkdir -p "$(dirname "$output")"
install -m 0644 out/page.png "$output"
echo "image-check: $records packages, glyphs of every script, labels; picture in $took ms: $output"
