#!/usr/bin/env bash
# Installs the packages that the tiers need. Exits with 3 if only the tests that need cargo alone can
# run.
set -euo pipefail

if ! command -v cargo >/dev/null; then
  echo 'cargo is missing: install Rust (https://rustup.rs) and run again' >&2
  exit 1
fi
cargo --version
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo 'SKIPPED: the real tiers need root and Debian packages; only the tests that need cargo alone are run'
  exit 3
fi
missing=()
for package in openssh-server openssh-client sudo haproxy keepalived cloud-init netplan.io \
  dnsmasq-base bind9-dnsutils genisoimage iproute2 util-linux shellcheck python3-jsonschema python3-venv jq \
  etcd-server etcd-client containerd openssl python3-yaml curl mmdebstrap systemd-container systemd; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  # Their services must not start: the tests run them themselves, on their own ports.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${missing[@]}"
fi
