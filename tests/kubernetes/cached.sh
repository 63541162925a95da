# shellcheck shell=bash
# Sourced: Go programs that are built once and kept in the user's cache folder.

# shellcheck disable=SC2034 # for those that source this
cache="${XDG_CACHE_HOME:-$HOME/.cache}/k8sha/kubernetes"

# cached FOLDER RECIPE BUILD NAME…: ensures that FOLDER has every NAME as built by RECIPE. For missing
# ones it runs `BUILD MODULE OUT NAME…`: MODULE is an empty folder, OUT the output folder. Without Go,
# or with if_built=yes, a missing one ends the script with 3.
cached() {
  local folder=$1 recipe build=$3 name work missing=()
  recipe=$(printf '%s\n' "$2" | sha256sum | cut -d' ' -f1)
  shift 3
  mkdir -p "$folder"
  # A second caller waits for the build of the first one.
  exec 9>"$folder/.lock"
  flock 9
  for name in "$@"; do
    if [ "$(cat "$folder/.$name.recipe" 2>/dev/null)" != "$recipe" ] || ! [ -x "$folder/$name" ]; then
      missing+=("$name")
    fi
  done
  if [ ${#missing[@]} -gt 0 ]; then
    if [ "${if_built:-no}" = yes ]; then
      echo "${missing[*]} of $folder not built before" >&2
      exit 3
    fi
    if ! command -v go >/dev/null; then
      echo "Go is missing, and ${missing[*]} of $folder not built before" >&2
      exit 3
    fi
    # The remains of a killed build; no other build runs here now.
    rm -rf "$folder"/.work.*
    work="$(mktemp -d "$folder/.work.XXXXXX")"
    mkdir "$work/module" "$work/out"
    echo "building ${missing[*]} of $folder, once: this takes minutes" >&2
    # The modules' checksums are verified with the checksum database, which the module proxy serves.
    (
      export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOFLAGS=-mod=mod
      "$build" "$work/module" "$work/out" "${missing[@]}"
    ) >&2
    for name in "${missing[@]}"; do
      # In this order a kill leaves a program that is built again, not a wrong one.
      rm -f "$folder/.$name.recipe"
      mv "$work/out/$name" "$folder/$name"
      echo "$recipe" >"$work/recipe"
      mv "$work/recipe" "$folder/.$name.recipe"
    done
    rm -rf "$work"
  fi
  exec 9>&-
}
