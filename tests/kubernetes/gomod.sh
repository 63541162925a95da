#!/usr/bin/env bash
# gomod.sh VERSION FOLDER: writes the go.mod and go.sum that build Kubernetes VERSION from the module
# proxy.
#
# They are Kubernetes's own, with its staging folders (which are not in its module) replaced by their
# published modules: k8s.io/api of 1.34.4 is k8s.io/api v0.34.4.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
version=$1
folder=$2

go mod download "k8s.io/kubernetes@v$version"
source="$(go env GOMODCACHE)/k8s.io/kubernetes@v$version"
sed -e 's|^module .*|module k8sha.test/kubernetes|' \
  -e "s|=> \./staging/src/\(k8s\.io/[a-z-]*\)\$|=> \1 v0.${version#1.}|" \
  "$source/go.mod" >"$folder/go.mod"
cat "$source/go.sum" >"$folder/go.sum"
cd "$folder"
go mod edit -require "k8s.io/kubernetes@v$version"
while read -r of module instead; do
  [ "$of" != "$version" ] || go mod edit -replace "$module=$module@$instead"
done <"$here/replaced"
