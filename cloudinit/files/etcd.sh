#!/bin/sh
# Installs etcd and etcdctl of a release, verified by the SHA-256 that the profile pins.
#   etcd VERSION URL SHA256
set -eu
version=$1 url=$2 sha256=$3
if command -v etcd > /dev/null && etcd --version | grep -qx "etcd Version: $version"; then
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
curl --fail --silent --show-error --location --max-time 300 \
    --retry 5 --retry-delay 2 --retry-all-errors --output "$work/etcd.tar.gz" "$url"
if ! echo "$sha256  $work/etcd.tar.gz" | sha256sum --check --status; then
    echo "k8sha etcd: $url is not what the profile pins" >&2
    exit 1
fi
mkdir "$work/etcd"
tar -xzf "$work/etcd.tar.gz" --strip-components=1 --no-same-owner -C "$work/etcd"
install -m 0755 -o root -g root "$work/etcd/etcd" "$work/etcd/etcdctl" /usr/local/bin
