#!/usr/bin/env bash
# k8sha's parts against real software: OpenSSH, HAProxy, keepalived, cloud-init, dnsmasq, etcd,
# containerd, kubeadm. As root, with the packages of ci/prerequisites.sh.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"

tests/real/containerd-builds.sh
K8SHA_REAL=1 cargo test --locked --test real -- --ignored --test-threads=1 --skip idle_for_ten_minutes
