#!/usr/bin/env bash
# images.sh VERSION: builds the images of `kubeadm config images list` and one for the test's own pods,
# as archives for `ctr -n k8s.io images import`, and prints their folder. No registry is used.
#
# kube-proxy's also contains Debian's iptables, nftables and conntrack: it needs apt, but not root.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source-path=SCRIPTDIR
. "$here/cached.sh"
version=${1:?images.sh VERSION}
folder="$cache/$version/images"

binaries="$("$here/build.sh" "$version")"
mapfile -t images < <("$binaries/kubeadm" config images list --kubernetes-version "v$version")
# The parts' versions are those of the images: 3.6.5 of registry.k8s.io/etcd:3.6.5-0.
tag() {
  local image
  for image in "${images[@]}"; do
    if [[ $image == */"$1":* ]]; then
      image=${image##*:}
      image=${image#v}
      echo "${image%-*}"
    fi
  done
}
etcd="$("$here/part.sh" etcd "$(tag etcd)")"
coredns="$("$here/part.sh" coredns "$(tag coredns)")"
pause="$("$here/part.sh" pause "$(tag pause)")"
start="$("$here/part.sh" kube-proxy-start 1)"
pods="$("$here/part.sh" pods 1)"
images+=(k8sha.test/pods:1)

recipe=$(cat "$binaries"/.*.recipe "$etcd"/.*.recipe "$coredns"/.*.recipe "$pause"/.*.recipe "$start"/.*.recipe \
  "$pods"/.*.recipe "$here/images.sh" "$here/image.py" | sha256sum | cut -d' ' -f1)
exec 8>"$cache/$version/.images.lock"
flock 8
if [ "$(cat "$folder/.recipe" 2>/dev/null)" != "$recipe" ]; then
  rm -rf "$folder" "$folder".work.*
  work="$(mktemp -d "$folder.work.XXXXXX")"
  for image in "${images[@]}"; do
    name=${image##*/}
    name=${name%:*}
    root="$work/root-$name"
    mkdir -p "$root/usr/local/bin" "$root/etc"
    # Tells Go's resolver that the hosts file comes first.
    echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
    entrypoint=()
    case $name in
      etcd) cp "$etcd/etcd" "$etcd/etcdctl" "$root/usr/local/bin/" ;;
      coredns)
        cp "$coredns/coredns" "$root/coredns"
        entrypoint=(/coredns)
        ;;
      pause)
        cp "$pause/pause" "$root/pause"
        entrypoint=(/pause)
        ;;
      pods) cp "$pods"/{pod-network,talk} "$root/usr/local/bin/" ;;
      kube-proxy)
        mkdir "$work/debs"
        mapfile -t debs < <(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
          --no-breaks --no-replaces --no-enhances iptables nftables conntrack | grep '^[a-z]' | sort -u)
        (cd "$work/debs" && apt-get -q download "${debs[@]}") >&2
        for deb in "$work/debs"/*.deb; do
          dpkg-deb -x "$deb" "$root"
        done
        rm -rf "$work/debs" "${root:?}"/usr/share "$root"/{usr/,}lib/systemd
        # The choices of their maintainer scripts.
        for program in iptables{,-save,-restore} ip6tables{,-save,-restore}; do
          ln -s xtables-nft-multi "$root/usr/sbin/$program"
        done
        cp "$start/kube-proxy-start" "$root/usr/local/bin/kube-proxy"
        mkdir -p "$root/usr/local/lib"
        cp "$binaries/kube-proxy" "$root/usr/local/lib/"
        ;;
      *) cp "$binaries/$name" "$root/usr/local/bin/" ;;
    esac
    python3 "$here/image.py" "$work/$name.tar" "$image" "$root" ${entrypoint[@]+"${entrypoint[@]}"}
    rm -rf "$root"
  done
  echo "$recipe" >"$work/.recipe"
  mv "$work" "$folder"
fi
echo "$folder"
