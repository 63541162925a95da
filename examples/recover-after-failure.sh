#!/usr/bin/env bash
# A run that fails, a run that is killed, and the re-run that finishes, in a simulated world.
#
#   cargo build && examples/recover-after-failure.sh
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"
k8sha=${K8SHA:-target/debug/k8sha}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
up=("$k8sha" up --simulate "$work/world" --quiet)

echo '== a guest that never boots: the run fails, and prints where and how to fix it'
if "${up[@]}" --speed 60 --inject never-boots@k8s1master3; then
  echo 'it should have failed' >&2
  exit 1
fi

echo '== the next run is killed half-way'
"${up[@]}" --speed 20 >/dev/null &
sleep 2
kill -KILL $! || true
wait $! 2>/dev/null || true

echo '== the remaining steps'
"$k8sha" plan --simulate "$work/world" --quiet --speed 60 | tail -n 3

echo '== the run that finishes'
"${up[@]}" --speed 60
