#!/usr/bin/env bash
# The whole job with real Kubernetes: ci/kubernetes.sh [MINUTES]
#
# Scenes that would not end within so many minutes (default: all do) are named and left to
# tests/kubernetes/run.sh. Missing builds are done as far as time allows; the next run resumes from
# there.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"

minutes=${1:-240}
[ "$minutes" -gt 0 ] || { echo "SKIPPED: no time is left for real Kubernetes; run ci/kubernetes.sh"; exit 0; }
# The maximum duration of each, on two cores; the first ones matter most.
scenes=(living-stacked:12 living-external:12 external:7 rebuilds:12 stacked:6 etcd-role:7)

layer=tests/kubernetes/layer.sh
if ! "$layer" --if-built >/dev/null; then
  # The scenes need the rest of the time.
  timeout "$((minutes * 60 * 2 / 3))" "$layer" || true
fi
if ! "$layer" --if-built >/dev/null; then
  echo "SKIPPED: real Kubernetes is not built on this machine; $layer builds it, once"
  exit 0
fi
cargo build --locked
cargo build --locked -p k8sha-lab
for scene in "${scenes[@]}"; do
  if [ "$((SECONDS + ${scene#*:} * 60))" -gt "$((minutes * 60))" ]; then
    echo "SKIPPED ${scene%:*}: it would not end within $minutes minutes; run it with tests/kubernetes/run.sh"
  else
    tests/kubernetes/run.sh - "${scene%:*}"
  fi
done
