#!/usr/bin/env bash
# Fetches the third-party clients of one language from their registry, builds them if necessary, and
# prints their folder.
#
#   tests/foreign/bring.sh python|node|rust|go
#
# The folder is named after a hash of the pinned versions, and kept for the next run. If the language or
# the registry is not available, the script prints SKIPPED with the reason, and exits with 3. A mismatch
# with a pinned version is a failure.
set -euo pipefail
language=$1
cd "$(dirname "$0")/$language"
root=${XDG_CACHE_HOME:-$HOME/.cache}/k8sha/foreign
log=$(mktemp)
trap 'rm -f "$log"' EXIT

skip() {
  echo "SKIPPED: the clients of $language: $1" >&2
  exit 3
}

# fetch WRONG COMMAND...: distinguishes an unreachable registry from a wrong pin by the command's
# output.
fetch() {
  local wrong=$1
  shift
  ! timeout 300 "$@" >"$log" 2>&1 || return 0
  tail -n 20 "$log" >&2
  ! grep -Eiq "$wrong" "$log" || { echo "the versions pinned for $language do not match the registry" >&2; exit 1; }
  skip "cannot be fetched, as told above"
}

# keep FILE...: names the folder after the files and the words on standard input, and waits until no
# other run fills it.
keep() {
  folder=$root/$language-$(cat - "$@" | sha256sum | cut -c1-16)
  mkdir -p "$folder"
  touch "$folder"
  exec 9>"$folder/lock"
  flock 9
  # Folders that no run has used for a long time are removed.
  find "$root" -mindepth 1 -maxdepth 1 -mtime +30 -exec rm -rf {} +
}

has() { [ -e "$folder/complete" ]; }
needs() { command -v "$1" >/dev/null || skip "$1 is missing"; }

case $language in
python)
  needs python3
  python3 -c 'import ensurepip, sys; assert sys.version_info >= (3, 11)' 2>/dev/null ||
    skip 'no Python 3.11 with venv is here'
  keep requirements.txt ansible.txt < <(python3 -VV)
  has || {
    python3 -m venv --clear "$folder/venv"
    pip=("$folder/venv/bin/python" -m pip --quiet --disable-pip-version-check --retries 2 --timeout 30)
    wrong='do not match the hashes|must have their versions pinned|hashes are required'
    fetch "$wrong" "${pip[@]}" install --require-hashes --only-binary :all: --requirement requirements.txt
    rm -rf "$folder/wheel"
    fetch "$wrong" "${pip[@]}" download --require-hashes --no-deps --only-binary :all: \
      --dest "$folder/wheel" --requirement ansible.txt
    # Only one of Ansible's hundred collections is needed.
    python3 - "$folder" <<'PYTHON'
import pathlib, sys, zipfile
folder = pathlib.Path(sys.argv[1])
(wheel,) = (folder / "wheel").glob("ansible-*.whl")
with zipfile.ZipFile(wheel) as files:
    wanted = "ansible_collections/community/proxmox/"
    names = [name for name in files.namelist() if name.startswith(wanted)]
    assert names, f"{wheel} has no {wanted}"
    files.extractall(folder / "collections", names)
wheel.unlink()
PYTHON
    touch "$folder/complete"
  }
  ;;
node)
  needs node
  needs npm
  node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' ||
    skip "Node.js 20 is wanted, $(node --version) is here"
  keep package.json package-lock.json < <(node --version)
  has || {
    cp package.json package-lock.json "$folder"
    fetch 'EUSAGE|EINTEGRITY|ETARGET' npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund \
      --fetch-retries 2 --fetch-timeout 30000
    touch "$folder/complete"
  }
  ;;
rust)
  needs cargo
  keep Cargo.lock < <(rustc -vV)
  export CARGO_NET_RETRY=2 CARGO_HTTP_TIMEOUT=30
  target=$(rustc -vV | sed -n 's/^host: //p')
  cargo fetch --quiet --locked --offline --target "$target" 2>/dev/null ||
    fetch 'lock file|--locked was passed|checksum' cargo fetch --locked --target "$target"
  cargo build --quiet --locked --offline --target-dir "$folder/target" >&2
  ;;
go)
  needs go
  export GOTOOLCHAIN=local GOFLAGS='-mod=readonly -buildvcs=false -trimpath'
  go list -m >/dev/null 2>"$log" || skip "$(cat "$log")"
  keep go.sum < <(go version)
  fetch 'SECURITY ERROR|checksum mismatch|missing go.sum entry' go mod download
  go build -o "$folder/client" . >&2
  ;;
*)
  echo "there are no clients for $language" >&2
  exit 1
  ;;
esac
echo "$folder"
