#!/usr/bin/env bash
# run.sh [RESULT [SCENE…]]: the whole job with real Kubernetes on real machines, and what it survives.
# Prints what it does, and writes to RESULT how long it took and for how long a client missed the API.
# SCENE is a file of scenes/ without its ending; all of them but six-masters unless named.
#
# Needs root, Go, Debian's packages that .ci/run installs, and cgroup v1 or v2 controllers. The
# first run builds Kubernetes, which takes long; it is kept.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"
version=1.34.4
result=${1:-/dev/stdout}
scenes=("${@:2}")
[ ${#scenes[@]} -gt 0 ] || scenes=(external stacked etcd-role)

layer="$(tests/kubernetes/layer.sh "$version")"
cargo build --locked --quiet
k8sha=target/debug/k8sha
# shellcheck source-path=SCRIPTDIR
. tests/kubernetes/site.sh

all="${KEEP:-$(mktemp -d)}"
[ -n "${KEEP-}" ] || trap 'rm -rf "$all"' EXIT
{
  echo "Kubernetes $version, etcd $("$layer/usr/bin/etcd" --version | head -n 1 | cut -d' ' -f3)," \
    "CNI plugins 1.9.1, $(date -u +%F), $(nproc) CPUs"
} >"$all/result"
for scene in "${scenes[@]}"; do
  (
    work="$all/$scene"
    mkdir "$work"
    trap end_site EXIT
    # shellcheck source=/dev/null # one of scenes/
    . "tests/kubernetes/scenes/$scene.sh"
  ) || {
    code=$?
    cat "$all/$scene/sim.log" >&2 || true
    exit "$code"
  }
  { echo && cat "$all/$scene/result"; } >>"$all/result"
done
cat "$all/result" >"$result"
