#!/usr/bin/env bash
# run.sh [RESULT [SCENE…]]: the whole job with real Kubernetes on real machines, and the failures it
# survives. Prints its progress, and writes to RESULT (or prints, for `-` or none) the durations and how
# long a client missed the API. SCENE is a file of scenes/ without its extension; default: all except
# six-masters.
#
# Needs root, Go, the Debian packages that ci/prerequisites.sh installs, and cgroup v1 or v2
# controllers. The first run builds Kubernetes, which takes long; the build is kept. The remains of a
# failed scene are kept in the folder KEEP, if it is set: reports, events, state.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"
result=${1:--}
scenes=("${@:2}")
[ ${#scenes[@]} -gt 0 ] || scenes=(living-stacked living-external external rebuilds stacked etcd-role)

layer="$(tests/kubernetes/layer.sh)"
cargo build --locked --quiet
cargo build --locked --quiet -p k8sha-lab
all="${KEEP:-$(mktemp -d)}"
# A build in the meantime does not change what is tested.
cp target/debug/k8sha target/debug/k8sha-lab "$all"
k8sha=$all/k8sha
# shellcheck source-path=SCRIPTDIR
. tests/kubernetes/site.sh

# Root's inotify instances are counted over all machines: a node has up to twenty.
instances=$(sysctl -n fs.inotify.max_user_instances)
[ "$instances" -ge 512 ] || sysctl -qw fs.inotify.max_user_instances=512 \
  || echo "the limit of inotify instances is only $instances: kube-proxies may run out of them" >&2
end() {
  [ "$instances" -ge 512 ] || sysctl -qw "fs.inotify.max_user_instances=$instances" || true
  [ -n "${KEEP-}" ] || rm -rf "$all"
}
trap end EXIT

echo "Kubernetes $("$layer/usr/bin/kubeadm" version -o short), etcd $("$layer/usr/bin/etcd" --version | sed -n '1s/.*: //p')," \
  "CNI plugins $(sed -n 's/^cni_version=//p' tests/kubernetes/layer.sh)," \
  "containerd as Debian has it; $(date -u +%F), $(nproc) CPUs." >"$all/result"
for scene in "${scenes[@]}"; do
  began=$SECONDS
  # Not as part of a condition, which would disable the exit at a failed claim.
  set +e
  (
    set -e
    work="$all/$scene"
    mkdir "$work"
    trap end_site EXIT
    # shellcheck source=/dev/null # one of scenes/
    . "tests/kubernetes/scenes/$scene.sh"
  )
  code=$?
  set -e
  if [ "$code" != 0 ]; then
    echo "FAILED: the scene $scene; the simulator's output:" >&2
    cat "$all/$scene/sim.log" >&2 || true
    exit "$code"
  fi
  {
    echo
    cat "$all/$scene/result"
    echo
    echo "The whole scene took $((SECONDS - began)) s."
  } >>"$all/result"
done
if [ "$result" = - ]; then
  cat "$all/result"
else
  cp "$all/result" "$result"
fi
