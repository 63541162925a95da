# shellcheck shell=bash
# shellcheck disable=SC2154 # run.sh sets them
# Sourced by run.sh: one simulated site whose machines are Kubernetes nodes, k8sha run against it, and
# the faults. A scene works in the folder $work; its output goes into $work/result.

# begin_site SCENE: serves an empty site, whose name servers know all rows of the scene. k8sha gets
# those that are not marked with `# later`.
begin_site() {
  profile=$work/profile.yaml
  cp tests/kubernetes/pod-network.yaml "$work"
  cat tests/kubernetes/cluster.yaml "tests/kubernetes/scenes/$1.yaml" >"$work/all.yaml"
  sed '/# later$/d' "$work/all.yaml" >"$profile"
  "${k8sha}-lab" sim --guest-layer "$layer" --profile "$work/all.yaml" >"$work/endpoints.json" 2>"$work/sim.log" &
  sim=$!
  until [ -s "$work/endpoints.json" ]; do
    kill -0 "$sim" 2>/dev/null || { cat "$work/sim.log" >&2 && return 1; }
    sleep 0.2
  done
  lab=$(jq -r .containers.network "$work/endpoints.json")
}

end_site() {
  [ -z "${client-}" ] || kill "$client" 2>/dev/null || true
  [ -z "${run-}" ] || kill "$run" 2>/dev/null || true
  [ -z "${sim-}" ] || { kill -INT "$sim" && wait "$sim"; } 2>/dev/null || true
}

say() { printf '%s\n' "$*" | tee -a "$work/result"; }

# A claim that must hold: must WHAT COMMAND…
must() {
  local what=$1
  shift
  if ! "$@"; then
    echo "FAILED: $what: $*" >&2
    return 1
  fi
  echo "ok: $what"
}
is() { [ "$1" = "$2" ] || { echo "is \`$1\`, not \`$2\`" >&2 && return 1; }; }
fails() { ! "$@"; }

# k8sha on this site, and its report: on_site NAME COMMAND FLAG… writes NAME.json and NAME.events, whose
# lines start with the time. It returns k8sha's own exit code.
on_site() {
  begin "$@"
  ended
}
begin() {
  local name=$1
  shift
  : >"$work/$name.events"
  "$k8sha" "$@" --profile "$profile" --endpoints "$work/endpoints.json" --state "$work/state" --json \
    >"$work/$name.json" 2> >(while IFS= read -r line; do echo "$EPOCHREALTIME $line"; done >"$work/$name.events") &
  run=$!
}
ended() {
  local code=0
  wait "$run" || code=$?
  run=
  return "$code"
}
# reaches NAME TEXT: waits until an event of that run has TEXT. Fails if the run ends before.
reaches() {
  must "$1 comes to $2" timeout 600 grep -qm1 -F "$2" \
    < <(tail -n +1 -f --pid="$run" "$work/$1.events" 2>/dev/null)
}
# kill_at NAME TEXT COMMAND…: a run that is killed when an event has TEXT.
kill_at() {
  begin "$1" "${@:3}"
  reaches "$1" "$2"
  kill -KILL "$run"
  wait "$run" 2>/dev/null || true
  run=
}
verdict() { jq -r .verdict "$work/$1.json"; }
changes() { jq '[.steps[] | select(.changed)] | length' "$work/$1.json"; }
# Prints for a run the number of steps of each kind, the longest and their sum, and the total duration.
table() {
  say '| step | how many | longest | sum |'
  say '|---|---|---|---|'
  jq -r '[.steps[] | select(.seconds)] | group_by(.step | split("/")[0])[]
    | "| \(.[0].step | split("/")[0]) | \(length) | \([.[].seconds] | max * 10 | round / 10) s | \([.[].seconds] | add * 10 | round / 10) s |"' "$work/$1.json" | tee -a "$work/result"
  say
  say "In all $(wall "$1") s."
  say
}
# The steps that failed.
failures() { jq -r '[.failures[].step] | sort | join(" ")' "$work/$1.json"; }
wall() { jq '.wall_s | round' "$work/$1.json"; }
# From the first master's join to the end of the last one's.
joins() {
  grep -E '"event":"(started|finished)","step":"join/[a-z0-9]*master' "$work/$1.events" \
    | awk 'NR == 1 { first = $1 } { last = $1 } END { printf "%.1f s", last - first }'
}

# The operator's own machine: in the lab's network, with the site's name servers.
outside() {
  # shellcheck disable=SC2016 # for the shell in there
  ip netns exec "$lab" sh -c 'mount --bind "$0" /etc/resolv.conf && exec "$@"' "$work/resolv.conf" "$@"
}
# Queries the cluster with the kubeconfig that k8sha wrote, through the name in it.
kubectl() {
  printf 'nameserver 10.101.1.2\nnameserver 10.101.1.3\n' >"$work/resolv.conf"
  outside "$layer/usr/bin/kubectl" --kubeconfig "$work/state/kubeconfig" "$@"
}
# ready N: whether there are N nodes, all of them Ready.
ready() {
  kubectl get nodes -o wide
  is "$(kubectl get nodes --no-headers | awk '{ print $2 }' | sort | uniq -c | xargs)" "$1 Ready"
}
count_role() { kubectl get nodes --no-headers -l "node-role.kubernetes.io/$1" | wc -l; }
# in_machine VMID COMMAND…: inside a machine, as its root.
in_machine() {
  local leader
  leader=$(pgrep -f -- "--directory=[^ ]*${lab#k8sha-}/machines/$1-site/root")
  leader=$(pgrep -P "$leader" | head -n 1)
  nsenter --target "$leader" --all -- "${@:2}"
}
# proxmox HOST METHOD PATH: acts as a user in Proxmox VE, below the host's node.
proxmox() {
  local url token
  url=$(jq -r ".hosts.$1.url" "$work/endpoints.json")
  token=$(jq -r ".hosts.$1.token" "$work/endpoints.json")
  jq -r ".hosts.$1.ca" "$work/endpoints.json" >"$work/$1.pem"
  curl -sS --fail-with-body --cacert "$work/$1.pem" -X "$2" -H @<(printf 'Authorization: PVEAPIToken=%s\n' "$token") \
    "$url/api2/json/nodes/$1/$3"
}
# power HOST VMID start|stop
power() { proxmox "$1" POST "qemu/$2/status/$3" >/dev/null; }
host_of() { grep "vmid: $1 " "$profile" | sed 's/.*pve: \([a-z0-9]*\).*/\1/'; }
cut_power() { power "$(host_of "$1")" "$1" stop; }
# The balancer that has the VIP.
holder() {
  local vmid
  for vmid in 1011 1012; do
    ! ip netns exec "$lab-$vmid-site" ip -4 addr show | grep -q '10.101.1.10/32' || echo "$vmid"
  done
}
cut_holder() { cut_power "$(holder)"; }

# A client that sends a request to the API every 20 ms, each over a new verified connection, and records
# when it was answered.
watch_api() {
  kubectl config view --raw -o 'jsonpath={.clusters[0].cluster.certificate-authority-data}' | base64 -d >"$work/ca.crt"
  : >"$work/answers"
  # shellcheck disable=SC2016 # for the shell in there
  ip netns exec "$lab" bash -c 'while :; do
    [ "$(curl -s --max-time 1 --cacert "$0" --resolve k8s1api.kloud.lan:6443:10.101.1.10 \
      https://k8s1api.kloud.lan:6443/readyz)" != ok ] || echo "$EPOCHREALTIME"
    sleep 0.02
  done' "$work/ca.crt" >"$work/answers" &
  client=$!
  answered 0
}
# answered N: waits for 20 more answers than N.
answered() {
  timeout 60 head -n 20 >/dev/null < <(tail -n "+$(($1 + 1))" -f "$work/answers")
}
# The longest time between two answers; fails if there is no answer at the end.
outage() {
  answered "$(wc -l <"$work/answers")"
  kill "$client"
  wait "$client" 2>/dev/null || true
  client=
  awk 'NR > 1 && $1 - last > most { most = $1 - last } { last = $1 } END { printf "%.2f s", most }' "$work/answers"
}
# lose_and_repair WHAT VMID: cuts a machine's power, and lets k8sha detect and repair that. Prints for
# how long a client missed the API.
lose_and_repair() {
  local missed
  watch_api
  cut_power "$2"
  sleep 12
  missed=$(outage)
  must "k8sha status sees that $1 is lost" fails on_site lost status
  must 'and says which' is "$(jq -r '[.nodes[] | select(.vm == "stopped") | .vmid] | join(" ")' "$work/lost.json")" "$2"
  must 'k8sha up starts it again' on_site repaired up
  must 'k8sha status reports a match with the profile' on_site well status
  say "| $1 | $missed | $(wall repaired) s |"
}

# The number of joins of masters that started while another one was running.
overlaps() {
  grep -E '"event":"(started|finished)","step":"join/[a-z0-9]*master' "$work/$1.events" \
    | awk '/"started"/ { if (running++) n++ } /"finished"/ { running-- } END { print n + 0 }'
}

# The site's etcd, with the operator's files for it.
etcdctl() {
  local file
  for file in ca cert key; do
    [ -e "$work/etcd-$file.pem" ] || (umask 077 && jq -r ".etcd.$file" "$work/endpoints.json" >"$work/etcd-$file.pem")
  done
  ip netns exec "$lab" "$layer/usr/bin/etcdctl" --endpoints https://10.103.1.101:2379 \
    --cacert "$work/etcd-ca.pem" --cert "$work/etcd-cert.pem" --key "$work/etcd-key.pem" "$@"
}
kill_etcd() {
  local pid
  for pid in $(pgrep -x etcd); do
    # Another lab on this machine may have one of that name.
    [ "$(stat -Lc %i "/proc/$pid/ns/net")" = "$(stat -Lc %i "/run/netns/$lab")" ] || continue
    ! grep -qa "name=etcd-$1" "/proc/$pid/cmdline" || kill -KILL "$pid"
  done
}

# Whether every pod reaches every other one by its address, and one of them by the service's name.
pods_talk() {
  local from to pods address said
  kubectl apply -f tests/kubernetes/talk.yaml >/dev/null
  kubectl rollout status daemonset/talk --timeout=120s >/dev/null
  kubectl -n kube-system rollout status deployment/coredns --timeout=120s >/dev/null
  pods=$(kubectl get pods -l app=talk -o jsonpath='{range .items[*]}{.metadata.name} {.status.podIP}{"\n"}{end}')
  while read -r from _; do
    while read -r to address; do
      said=$(kubectl exec "$from" -- talk "http://$address:8080/" </dev/null)
      must "$from hears $to at $address" is "$said" "$to"
    done <<<"$pods"
    said=$(kubectl exec "$from" -- talk http://talk/ </dev/null)
    must "$from hears one of them by the service's name" grep -q '^talk-' <<<"$said"
  done <<<"$pods"
}
