#!/bin/sh
# Imports an archive of container images where kubelet finds them, before kubeadm would pull them.
#   import-images PATH
#   import-images URL SHA256
set -eu
from=$1

case "$from" in
/*)
    archive=$from
    if [ ! -r "$archive" ]; then
        echo "k8sha import-images: there is no $archive" >&2
        exit 1
    fi
    ;;
*)
    archive=$(mktemp)
    trap 'rm -f "$archive"' EXIT
    curl --fail --silent --show-error --location --proto '=https,http' --max-time 1800 \
        --retry 5 --retry-delay 2 --retry-all-errors --output "$archive" "$from"
    if ! echo "$2  $archive" | sha256sum --check --strict --status; then
        echo "k8sha import-images: $from is not the file of SHA-256 $2" >&2
        exit 1
    fi
    ;;
esac
# kubelet's containers live in this name space of containerd.
ctr --namespace k8s.io images import "$archive"
