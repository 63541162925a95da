#!/usr/bin/env bash
# Builds the containerd versions that Debian does not package, from Go's modules, once:
#   ~/.cache/k8sha/containerd-VERSION
# Without Go it reports that and does nothing; the tests that need the builds then report it too.
set -euo pipefail

versions=(1.7.28 2.1.4)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/k8sha
PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null; then
  echo 'SKIPPED: no Go, so containerd 1.7 and 2.x are not built'
  exit 0
fi
mkdir -p "$cache"
for version in "${versions[@]}"; do
  to=$cache/containerd-$version
  [ ! -x "$to" ] || continue
  case $version in
    1.*) module=github.com/containerd/containerd ;;
    *) module=github.com/containerd/containerd/v2 ;;
  esac
  # A wrapper module: `go install` refuses modules that replace others.
  work=$(mktemp -d)
  (
    cd "$work"
    go mod init k8sha.test/containerd
    go get "$module/cmd/containerd@v$version"
    CGO_ENABLED=0 go build -ldflags "-X $module/version.Version=v$version" -o containerd "$module/cmd/containerd"
  ) 2>"$work/log" || { tail -n 20 "$work/log"; exit 1; }
  mv "$work/containerd" "$to"
  rm -rf "$work"
done
