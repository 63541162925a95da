#!/bin/sh
# Installs the asked kernel, makes it the one that GRUB starts, and leaves a file behind when the
# node must restart for it. Does nothing when that kernel runs already.
#   kernel hwe
#   kernel mainline VERSION     a build of https://kernel.ubuntu.com/mainline, such as 6.6.1
set -eu
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1

fail() {
    echo "k8sha kernel: $*" >&2
    exit 1
}

fetch() {
    curl --fail --silent --show-error --location --proto '=https' --max-time 900 \
        --retry 5 --retry-delay 2 --retry-all-errors --output "$2" "$1" ||
        fail "cannot fetch $1"
}

ask_for_reboot() {
    mkdir -p /run/k8sha
    echo "$1" > /run/k8sha/reboot-needed
}

# GRUB starts the highest version by itself, and a mainline kernel may be lower than an HWE one.
make_default() {
    update-grub
    menu=$(sed -n -E "s/.*menuentry_id_option '(gnulinux-advanced-[^']*)'.*/\1/p" /boot/grub/grub.cfg | head -n 1)
    entry=$(sed -n -E "s/.*menuentry_id_option '(gnulinux-$1-advanced-[^']*)'.*/\1/p" /boot/grub/grub.cfg | head -n 1)
    if [ -z "$menu" ] || [ -z "$entry" ]; then
        fail "GRUB's menu has no entry for $1"
    fi
    mkdir -p /etc/default/grub.d
    echo "GRUB_DEFAULT=\"$menu>$entry\"" > /etc/default/grub.d/90-k8sha.cfg
    update-grub
}

hwe() {
    . /etc/os-release
    apt-get install --yes --quiet "linux-image-generic-hwe-$VERSION_ID"
    release=$(find /boot -name 'vmlinuz-*-generic' | sed 's|.*/vmlinuz-||' | sort -V | tail -n 1)
    [ "$release" = "$(uname -r)" ] || ask_for_reboot "$release"
}

mainline() {
    version=$1
    echo "$version" | grep -q -E '^[0-9]+\.[0-9]+\.[0-9]+$' || fail "\`$version\` is not a version"
    release="$version-$(echo "$version" | tr . ' ' | xargs printf '%02d%02d%02d')-generic"
    [ "$release" != "$(uname -r)" ] || exit 0

    # A release such as 6.6.0 lies in v6.6.
    base="{{ mirrors.kernels }}/v$(echo "$version" | sed 's/\.0$//')/$(dpkg --print-architecture)"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    fetch "$base/CHECKSUMS" "$work/CHECKSUMS"
    # Image and modules only: the headers want a newer libc than an older Ubuntu has. The file has
    # SHA-1 lines too, which 64 digits leave out.
    grep -E "^[0-9a-f]{64}  linux-(image-unsigned|modules)-$release" "$work/CHECKSUMS" > "$work/wanted" || true
    [ "$(wc -l < "$work/wanted")" -eq 2 ] || fail "$base/CHECKSUMS does not list one image and one modules package of $release"
    while read -r _ name; do
        fetch "$base/$name" "$work/$name"
    done < "$work/wanted"
    (cd "$work" && sha256sum --check --strict wanted) || fail "a package of $base is not what its CHECKSUMS says"
    apt-get install --yes --quiet --no-install-recommends "$work"/*.deb
    make_default "$release"
    ask_for_reboot "$release"
}

case "$1" in
hwe) hwe ;;
mainline) mainline "$2" ;;
*) fail "unknown policy \`$1\`" ;;
esac
