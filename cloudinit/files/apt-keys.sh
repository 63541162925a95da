#!/bin/sh
# Fetches the signing keys of this node's package sources. apt runs it before every update, by when
# the network is up; a key that is here is left alone.
set -eu
umask 022

fetch() {
    [ ! -s "$1" ] || return 0
    mkdir -p "$(dirname "$1")"
    curl --fail --silent --show-error --location --proto '=https' --max-time 60 \
        --retry 5 --retry-delay 2 --retry-all-errors --output "$1.new" "$2"
    if ! grep -q 'BEGIN PGP PUBLIC KEY BLOCK' "$1.new"; then
        echo "k8sha apt-keys: $2 is not an armoured OpenPGP key" >&2
        exit 1
    fi
    mv "$1.new" "$1"
}

fetch /etc/apt/keyrings/kubernetes.asc "{{ mirrors.kubernetes }}/core:/stable:/v{{ kubernetes.minor }}/deb/Release.key"
fetch /etc/apt/keyrings/docker.asc "{{ mirrors.docker }}/linux/{{ distribution }}/gpg"
