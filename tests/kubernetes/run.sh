#!/usr/bin/env bash
# run.sh [RESULT]: the whole job with real Kubernetes on real machines, and what it survives. Prints
# (or writes to RESULT) how long each phase took and for how long a client missed the API.
#
# Needs root, Go, Debian's packages that .ci/run installs, and cgroup v1 or v2 controllers. The
# first run builds Kubernetes, which takes long; it is kept.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"
version=1.34.4
result=${1:-/dev/stdout}
profile=tests/kubernetes/cluster.yaml

layer="$(tests/kubernetes/layer.sh "$version")"
cargo build --locked --quiet
k8sha=target/debug/k8sha
work="$(mktemp -d)"
sim='' client=''
end() {
  [ -z "$client" ] || kill "$client" 2>/dev/null || true
  [ -z "$sim" ] || { kill -INT "$sim" && wait "$sim"; } 2>/dev/null || true
  rm -rf "$work"
}
trap end EXIT

"$k8sha" sim --guests containers --guest-layer "$layer" --profile "$profile" >"$work/endpoints.json" &
sim=$!
until [ -s "$work/endpoints.json" ]; do
  kill -0 "$sim"
  sleep 0.2
done
# The newest lab is ours: its name is its network's.
lab="k8sha-$(find /run/k8sha/labs -mindepth 1 -maxdepth 1 -printf '%T@ %f\n' | sort -n | tail -n 1 | cut -d' ' -f2)"
on_site() { "$k8sha" "$@" --endpoints "$work/endpoints.json" --state "$work/state"; }
kubectl() {
  ip netns exec "$lab" "$layer/usr/bin/kubectl" --kubeconfig "$work/state/kubeconfig" \
    --server https://10.101.1.10:6443 --tls-server-name k8s1api.kloud.lan "$@"
}
say() { printf '%s\n' "$*" >>"$work/result"; }
phases() {
  jq -r '[.steps[] | select(.seconds)] | group_by(.step | split("/")[0])[]
    | "\(.[0].step | split("/")[0]): \(length) in all, longest \([.[].seconds] | max * 10 | round / 10) s, sum \([.[].seconds] | add * 10 | round / 10) s"' "$1"
}
power() {
  local host token ca
  host=$(jq -r ".hosts.$1.url" "$work/endpoints.json")
  token=$(jq -r ".hosts.$1.token" "$work/endpoints.json")
  ca="$work/$1.pem"
  jq -r ".hosts.$1.ca" "$work/endpoints.json" >"$ca"
  curl -sS --fail-with-body --cacert "$ca" -X POST -H @<(printf 'Authorization: PVEAPIToken=%s\n' "$token") \
    "$host/api2/json/nodes/$1/qemu/$2/status/$3" >/dev/null
}
# A client that asks for the API every 20 ms, over a new connection each time, and writes down when
# it was answered.
watch_api() {
  # shellcheck disable=SC2016 # for the shell in there
  ip netns exec "$lab" bash -c 'while :; do
    [ "$(curl -sk --max-time 1 https://10.101.1.10:6443/readyz)" != ok ] || date +%s%N
    sleep 0.02
  done' >"$work/answers" &
  client=$!
}
# The longest time between two answers.
outage() {
  kill "$client"
  wait "$client" 2>/dev/null || true
  client=''
  awk 'NR > 1 && $1 - last > most { most = $1 - last } { last = $1 } END { printf "%.2f s", most / 1e9 }' "$work/answers"
}
lose() {
  watch_api
  sleep 3
  "${@:2}"
  sleep 12
  say "| $1 | $(outage) |"
}
kill_etcd() {
  local pid
  for pid in $(pgrep -x etcd); do
    ! grep -qa 'name=etcd-10.103.1.103' "/proc/$pid/cmdline" || kill -KILL "$pid"
  done
}
holder() {
  local name
  for name in 1011-site 1012-site; do
    ! ip netns exec "$lab-$name" ip -4 addr show | grep -q '10.101.1.10/32' || echo "${name%-site}"
  done
}

say "Kubernetes $version, etcd $("$layer/usr/bin/etcd" --version | head -n 1 | cut -d' ' -f3), $(date -u +%F), $(nproc) CPUs"
say
say 'Made, all masters and workers joining at once:'
say
on_site up --profile "$profile" --json >"$work/up.json"
phases "$work/up.json" >>"$work/result"
say "wall $(jq '.wall_s | round' "$work/up.json") s"
kubectl get nodes -o wide
[ "$(kubectl get nodes --no-headers | wc -l)" = 4 ]
[ "$(kubectl get nodes --no-headers -l node-role.kubernetes.io/worker | wc -l)" = 1 ]

on_site up --profile "$profile" --json >"$work/again.json"
say "a second run: $(jq -r .verdict "$work/again.json"), $(jq '[.steps[] | select(.changed)] | length' "$work/again.json") changes"

say
say '| lost | the client missed the API for |'
say '|---|---|'
lose 'a master' power pve2 1201 stop
power pve2 1201 start
vip=$(holder)
host=$([ "$vip" = 1011 ] && echo pve1 || echo pve2)
lose 'the load balancer that held the VIP' power "$host" "$vip" stop
power "$host" "$vip" start
on_site up --profile "$profile" --json >"$work/back.json"
back=$(jq -r .verdict "$work/back.json")

sed 's/parallel_joins: all/parallel_joins: 1/' "$profile" >"$work/one-by-one.yaml"
on_site rebuild --yes --profile "$work/one-by-one.yaml" --json >"$work/rebuild.json"
# Last, since a cluster is only made on an etcd that is whole.
lose 'an etcd member' kill_etcd
say
say "Started again, the machines were as before: $back."
say
say "Rebuilt over the same etcd, masters joining one by one: $(jq -r .verdict "$work/rebuild.json")"
say
phases "$work/rebuild.json" | grep -E '^(init|join)' >>"$work/result" || true
say "wall $(jq '.wall_s | round' "$work/rebuild.json") s"
cat "$work/result" >"$result"
