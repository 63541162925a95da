#!/usr/bin/env bash
# build.sh [--if-built] VERSION [BINARY…]: builds Kubernetes's binaries, all or the named ones,
# statically, from the Go module proxy, and prints their folder. Existing ones are not built again.
# Exits with 3 if there is something to build and no Go, or with --if-built.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source-path=SCRIPTDIR
. "$here/cached.sh"
# shellcheck disable=SC2034 # for cached.sh
if_built=${if_built:-no}
if [ "${1-}" = --if-built ]; then
  if_built=yes
  shift
fi
version=${1:?build.sh [--if-built] VERSION [BINARY…]}
shift
binaries=("$@")
if [ ${#binaries[@]} = 0 ]; then
  binaries=(kubeadm kubelet kubectl kube-apiserver kube-controller-manager kube-scheduler kube-proxy)
fi
if ! [[ $version =~ ^1\.[0-9]+\.[0-9]+$ ]]; then
  echo "build.sh: $version is not a version like 1.34.4" >&2
  exit 2
fi

minor=${version#1.}
set_version=
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  set_version+=" -X $package.gitVersion=v$version -X $package.gitMajor=1"
  set_version+=" -X $package.gitMinor=${minor%.*} -X $package.gitTreeState=clean"
done
# The tags are Kubernetes's own. No debug information: it takes half of the compiler's time.
flags=(-trimpath -tags 'selinux,notest,grpcnotrace' -gcflags=all=-dwarf=false
  -ldflags "-s -w$set_version")

build() {
  local module=$1 out=$2
  shift 2
  "$here/gomod.sh" "$version" "$module"
  cd "$module"
  nice -n 10 go build -p 2 "${flags[@]}" -o "$out/" "${@/#/k8s.io/kubernetes/cmd/}"
}

recipe="${flags[*]} $(grep -v '^ *#' "$here/gomod.sh") $(grep "^$version " "$here/replaced" || true)"
cached "$cache/$version" "$recipe" build "${binaries[@]}"
echo "$cache/$version"
