#!/usr/bin/env bash
# Real machines, as system containers, behind the simulated Proxmox VE; and the main job on them.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"

cargo test --locked -p k8sha-lab --lib
K8SHA_REAL=1 cargo test --locked -p k8sha-lab --test machines -- --ignored --test-threads=1 --nocapture
cargo build --locked -p k8sha-lab
target/debug/k8sha-lab up --profile k8s1
left=$(find /run/netns /run/k8sha/labs -mindepth 1 -maxdepth 1 -name 'k8sha-????????' -o -name '????????' 2>/dev/null || true)
if [ -n "$left" ]; then
  echo "left behind: $left" >&2
  exit 1
fi
