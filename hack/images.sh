#!/usr/bin/env bash
# Builds the images as archives that a container runtime imports, without any registry or daemon.
#
#   hack/images.sh [operator|capture|site|all]...     default: all
#
# Out: dist/images/{screenshot-operator,capture-server,demo-site}.tar (OCI archives), named localhost/NAME:dev, and
#      dist/images/NAME.thin.tar: the same image without the layers below the program's. It is for a node that has
#      imported an earlier full archive with the same base: loading it takes a fraction of a second.
# Settings, from the environment:
#   BIN=prebuilt|compiled   take the programs from the host's cargo (default), or compile inside the build
#   PROFILE=image|release   cargo profile of the host's build (default image: quick to rebuild)
#   SKIP_CARGO=1            dist/bin is already filled
#   BASE_FROM=auto|pull|apt where debian:trixie-slim comes from (default auto: pull, else mmdebstrap)
#   FRESH=1                 build without the cache, to take Debian's newest browser
#   TAG=dev                 tag of the images
# Needs: buildah, skopeo, jq, rsync; mmdebstrap where the base cannot be pulled; cargo, go.
# Must not: write outside dist/, the cache directory and cargo's target directory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. hack/cache.sh
CACHE=$CACHE/images
BASE=docker.io/library/debian:trixie-slim
TAG=${TAG:-dev}
BIN=${BIN:-prebuilt}
export SOURCE_DATE_EPOCH=$EPOCH
export BUILDAH_ISOLATION=chroot
export CONTAINERS_STORAGE_CONF=$CACHE/storage.conf
case $(uname -m) in
x86_64) ARCH=amd64 ;;
aarch64) ARCH=arm64 ;;
*) echo "images: no images for $(uname -m)" >&2 && exit 1 ;;
esac

say() { echo "images: $*" >&2; }

prepare_storage() {
    mkdir -p "$CACHE/graph" "$CACHE/run" "$CACHE/blobs" dist/images dist/bin/"$ARCH"
    # An own store with absolute paths: the machine's other images are none of our business.
    cat >"$CONTAINERS_STORAGE_CONF" <<-CONF
		[storage]
		driver = "overlay"
		graphroot = "$CACHE/graph"
		runroot = "$CACHE/run"
	CONF
    # The builds name every image in full, and local policy is to take what was made here.
    echo '{"default":[{"type":"insecureAcceptAnything"}]}' >"$CACHE/policy.json"
    # What a build that was killed has left: it stays mounted, and keeps the layers below it from ever being dropped.
    buildah rm --all >/dev/null
}

# The archive that the machine's own apt uses, for a machine that can reach a Debian mirror but no image registry.
base_from_apt() {
    say "making $BASE with mmdebstrap from this machine's apt sources"
    local sources=$CACHE/sources.list tarball=$CACHE/base.tar codename container
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016 # these are apt's own variables
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' |
        awk '$4 == "Debian" && $3 == "main"' | sort -u |
        sed -E "s/ ${codename}(-[a-z]+)? / trixie\1 /" |
        awk '{ print "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " $1 " " $2 " main" }' >"$sources"
    [ -s "$sources" ] || { say "apt knows no Debian archive" && return 1; }
    rm -f "$tarball"
    hack/step.sh "base image" mmdebstrap --quiet --variant=minbase --include=ca-certificates --skip=cleanup/tmp \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        trixie "$tarball" "$sources"
    container=$(buildah from --pull-never scratch)
    buildah add --quiet "$container" "$tarball" / >/dev/null
    buildah config --cmd /bin/bash "$container"
    buildah commit --quiet --rm --timestamp "$SOURCE_DATE_EPOCH" "$container" "$BASE" >/dev/null
    rm -f "$tarball"
}

ensure_base() {
    if buildah inspect --type image "$BASE" >/dev/null 2>&1; then return; fi
    if [ "${BASE_FROM:-auto}" != apt ]; then
        if timeout 20 skopeo inspect --raw "docker://$BASE" >/dev/null 2>&1; then
            hack/step.sh "pull $BASE" hack/quietly.sh buildah pull --quiet "$BASE" && return
        fi
        if [ "${BASE_FROM:-auto}" = pull ]; then say "cannot pull $BASE" && return 1; fi
    fi
    base_from_apt
}

# Programs of the host.
cargo_programs() {
    [ "$BIN" = prebuilt ] && [ -z "${SKIP_CARGO:-}" ] || return 0
    local programs program
    programs=$(hack/programs.sh "$@")
    for program in "$@"; do install -m 0555 "$programs/$program" "dist/bin/$ARCH/$program"; done
}

# build NAME CONTAINERFILE CONTEXT [ARGS...]
build() {
    local name=$1 file=$2 context=$3 options=(--layers)
    shift 3
    if [ -n "${FRESH:-}" ]; then options+=(--no-cache); fi
    if [ "$BIN" = prebuilt ]; then options+=(--pull-never); fi
    # Without a fixed time the same input gives another digest, and a thin archive no longer fits its base.
    # apt in the build needs the host's network and nothing more.
    hack/step.sh "image $name" hack/quietly.sh buildah build "${options[@]}" --network host --timestamp "$SOURCE_DATE_EPOCH" \
        --build-arg SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" --build-arg BIN="$BIN" --build-arg TARGETARCH="$ARCH" \
        --build-arg VERSION="$TAG" --build-arg REVISION="$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" \
        "$@" -f "$file" -t "localhost/$name:$TAG" "$context"
    archive "$name"
}

# Two archives from one copy into a directory of blobs that is kept: a blob that is there is not written again.
archive() {
    local name=$1 layout=$CACHE/layout/$1 blobs manifest config top
    rm -rf "$layout" && mkdir -p "$layout"
    skopeo copy --quiet --policy "$CACHE/policy.json" --dest-oci-accept-uncompressed-layers \
        --dest-shared-blob-dir "$CACHE/blobs" \
        "containers-storage:localhost/$name:$TAG" "oci:$layout:localhost/$name:$TAG"
    manifest=$(jq -r '.manifests[0].digest' "$layout/index.json")
    # The name under which containerd files the image is an annotation of its own.
    jq --arg name "localhost/$name:$TAG" \
        '.manifests[0].annotations["io.containerd.image.name"] = $name' "$layout/index.json" >"$layout/index.new"
    mv "$layout/index.new" "$layout/index.json"
    if cmp -s "$layout/index.json" <(tar -xOf "dist/images/$name.tar" --occurrence=1 index.json 2>/dev/null) &&
        [ -s "dist/images/$name.thin.tar" ]; then
        say "localhost/$name:$TAG is unchanged" && return
    fi
    config=$(jq -r .config.digest "$(blob "$manifest")")
    top=$(jq -r '.layers[-1].digest' "$(blob "$manifest")")
    mapfile -t blobs < <(jq -r '.layers[].digest' "$(blob "$manifest")" | sort -u)
    pack "$layout" "dist/images/$name.tar" "$manifest" "$config" "${blobs[@]}"
    pack "$layout" "dist/images/$name.thin.tar" "$manifest" "$config" "$top"
    say "localhost/$name:$TAG $(du -m "dist/images/$name.tar" | cut -f1) MB, thin $(du -k "dist/images/$name.thin.tar" | cut -f1) kB"
}

# Blobs that no image of now refers to are left over from earlier programs.
sweep_blobs() {
    local kept file
    kept=$(for index in "$CACHE"/layout/*/index.json; do
        manifest=$(jq -r '.manifests[0].digest' "$index")
        echo "$manifest" && jq -r '.config.digest, .layers[].digest' "$(blob "$manifest")"
    done | sed 's/^sha256://')
    for file in "$CACHE"/blobs/sha256/*; do
        grep -qx "$(basename "$file")" <<<"$kept" || rm -f "$file"
    done
    # Each program leaves its layers in the store as well. Dropping all of them costs one full build now and then.
    if [ "$(buildah images --quiet --filter dangling=true | wc -l)" -gt 150 ]; then
        say "emptying the build cache"
        buildah rmi --prune >/dev/null 2>&1 || true
    fi
}

blob() { echo "$CACHE/blobs/sha256/${1#sha256:}"; }

# pack LAYOUT ARCHIVE DIGEST...: an OCI archive of the layout with exactly these blobs.
pack() {
    local layout=$1 archive=$2 digest paths=()
    shift 2
    for digest in "$@"; do paths+=("blobs/sha256/${digest#sha256:}"); done
    # Fixed metadata: the same image is the same archive, so its checksum can be used as its name.
    tar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=0644 -cf "$archive.new" -C "$layout" oci-layout index.json -C "$CACHE" "${paths[@]}"
    mv "$archive.new" "$archive"
}

image_operator() {
    cargo_programs screenshot-operator
    build screenshot-operator operator/Containerfile . --ignorefile operator/Containerfile.dockerignore
}

image_capture() {
    cargo_programs capture-server capture-jail
    build capture-server capture-server/Containerfile . --ignorefile capture-server/Containerfile.dockerignore
}

image_site() {
    (cd tests/site && CGO_ENABLED=0 GOFLAGS=-trimpath go build -ldflags '-s -w -buildid=' -o ../../dist/bin/"$ARCH"/demo-site .)
    build demo-site tests/site/Containerfile .
}

# The store, its tags and the layouts are one for all checkouts.
alone() {
    mkdir -p "$CACHE"
    exec 9>"$CACHE/lock"
    flock -n 9 && return
    say "waiting for another build of images"
    flock -w 3600 9 || { say "it holds $CACHE/lock for an hour"; return 1; }
}

main() {
    alone
    prepare_storage
    if [ -n "${FRESH:-}" ]; then buildah rmi --force "$BASE" >/dev/null 2>&1 || true; fi
    ensure_base
    local what
    if [ $# -eq 0 ]; then set -- all; fi
    for what in "$@"; do
        case $what in
        operator | capture | site) "image_$what" ;;
        all) cargo_programs screenshot-operator capture-server capture-jail
            SKIP_CARGO=1
            image_operator
            image_capture
            image_site ;;
        *) say "unknown image: $what" && exit 2 ;;
        esac
    done
    sweep_blobs
}

main "$@"
