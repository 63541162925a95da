#!/usr/bin/env bash
# layer.sh [--if-built] [VERSION]: creates the folder that, laid over a Debian root file system with
# containerd, turns it into a Kubernetes node for `preinstalled: true`, and prints it. VERSION defaults
# to cluster.yaml's. Exits with 3 if there is something to compile and no Go, or with --if-built.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source-path=SCRIPTDIR
. "$here/cached.sh"
if [ "${1-}" = --if-built ]; then
  # For all scripts called by this one.
  export if_built=yes
  shift
fi
version=${1:-$(sed -n 's/^  version: //p' "$here/cluster.yaml")}
cni_version=1.9.1
folder="$cache/$version/layer"

binaries="$("$here/build.sh" "$version")"
images="$("$here/images.sh" "$version")"
cni="$("$here/part.sh" cni "$cni_version")"
# The etcd version of this kubeadm, for callers that run one beside it.
etcd_version=$("$binaries/kubeadm" config images list --kubernetes-version "v$version" | sed -n 's|.*/etcd:v\{0,1\}\([0-9.]*\).*|\1|p')
etcd="$("$here/part.sh" etcd "$etcd_version")"

recipe=$(cat "$images/.recipe" "$cni"/.*.recipe "$etcd"/.*.recipe "$here/layer.sh" "$here"/layer/* | sha256sum | cut -d' ' -f1)
exec 8>"$cache/$version/.layer.lock"
flock 8
if [ "$(cat "$folder.recipe" 2>/dev/null)" != "$recipe" ]; then
  rm -rf "$folder" "$folder".*
  work="$(mktemp -d "$folder.XXXXXX")"
  chmod 755 "$work"
  # Hard links: nothing writes to a layer that is below another one.
  mkdir -p "$work"/usr/bin "$work"/opt/cni/bin "$work"/opt/k8sha-images
  ln "$binaries"/{kubeadm,kubelet,kubectl} "$work/usr/bin/"
  ln "$etcd"/{etcd,etcdctl} "$work/usr/bin/"
  ln "$cni"/{bridge,host-local,loopback,portmap,ptp} "$work/opt/cni/bin/"
  ln "$images"/*.tar "$work/opt/k8sha-images/"
  mkdir -p "$work/usr/lib/k8sha-kubernetes" "$work/etc/default"
  cp "$here/layer/kubelet.default" "$work/etc/default/kubelet"
  cp "$here"/layer/{containerd-config,import-images} "$work/usr/lib/k8sha-kubernetes/"
  units="$work/usr/lib/systemd/system"
  mkdir -p "$units"/{kubelet,containerd}.service.d
  cp "$here/layer/kubelet.service" "$units/"
  cp "$here/layer/10-kubeadm.conf" "$units/kubelet.service.d/"
  cp "$here/layer/containerd.conf" "$units/containerd.service.d/k8sha-kubernetes.conf"
  mv "$work" "$folder"
  echo "$recipe" >"$folder.recipe"
fi
echo "$folder"
