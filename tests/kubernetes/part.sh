#!/usr/bin/env bash
# part.sh etcd|coredns|cni|pause|kube-proxy-start|pods VERSION: builds the programs of a node besides
# Kubernetes's own binaries, statically, from the Go module proxy, and prints their folder.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source-path=SCRIPTDIR
. "$here/cached.sh"
part=${1:?part.sh etcd|coredns|cni|pause|kube-proxy-start|pods VERSION}
version=${2:?part.sh etcd|coredns|cni|pause|kube-proxy-start|pods VERSION}
flags=(-trimpath -gcflags=all=-dwarf=false -ldflags '-s -w')

# module FOLDER REQUIREMENT…: creates a module with these requirements.
module() {
  cd "$1"
  shift
  go mod init k8sha.test/part
  for requirement in "$@"; do
    go mod edit -require "$requirement"
  done
}

compile() {
  nice -n 10 go build -p 2 "${flags[@]}" "$@"
}

etcd() {
  module "$1" "go.etcd.io/etcd/server/v3@v$version" "go.etcd.io/etcd/etcdctl/v3@v$version"
  compile -o "$2/etcd" go.etcd.io/etcd/server/v3
  compile -o "$2/etcdctl" go.etcd.io/etcd/etcdctl/v3
}

coredns() {
  module "$1" "github.com/coredns/coredns@v$version"
  cp "$here/coredns/main.go" .
  compile -o "$2/coredns" .
}

cni() {
  local plugins=github.com/containernetworking/plugins
  module "$1" "$plugins@v$version"
  compile -o "$2/" "$plugins/plugins/main/"{bridge,loopback,ptp} \
    "$plugins/plugins/ipam/host-local" "$plugins/plugins/meta/portmap"
}

pause() { own pause "$@"; }

kube-proxy-start() { own kube-proxy-start "$@"; }

pods() {
  module "$1" 'github.com/vishvananda/netlink@v1.3.1'
  cp -r "$here"/pods/* .
  compile -o "$2/" ./pod-network ./talk
}

own() {
  module "$2"
  cp "$here/$1/main.go" .
  compile -o "$3/$1" .
}

case $part in
  etcd) names=(etcd etcdctl) ;;
  cni) names=(bridge host-local loopback portmap ptp) ;;
  pods) names=(pod-network talk) ;;
  coredns | pause | kube-proxy-start) names=("$part") ;;
  *) echo "part.sh: there is no $part" >&2 && exit 2 ;;
esac
# All names of a part are built together.
all() { "$part" "$1" "$2"; }
cached "$cache/$part-$version" "${flags[*]} $(declare -f "$part") $(cat "$here/$part"/*.go "$here/$part"/*/*.go 2>/dev/null)" \
  all "${names[@]}"
echo "$cache/$part-$version"
