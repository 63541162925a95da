#!/usr/bin/env bash
# Third-party Proxmox VE clients against `k8sha sim`. They know nothing of k8sha, so they only work if
# the simulator answers as Proxmox VE does.
#
#   cargo build && tests/foreign/run.sh [proxmoxer|exporter|ansible|node|go|rust]...
#
# | client | from | pinned in |
# |---|---|---|
# | proxmoxer; prometheus-pve-exporter; Ansible's community.proxmox | PyPI | python/ |
# | proxmox-api | npm | node/ |
# | luthermonson/go-proxmox, which Cluster API's Proxmox provider uses | Go's module proxy | go/ |
# | proxmox-client, proxmox-api | crates.io | rust/ |
#
# Terraform is in no package registry, and so not included. Each client has its own simulator, whose CA
# it verifies. bring.sh caches the downloads; nothing leaves this machine after that. Clients that
# cannot be installed are SKIPPED, and named at the end.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"
here=tests/foreign
k8sha=${K8SHA:-target/debug/k8sha}
[ -x "$k8sha" ] || { echo "$k8sha is missing: run cargo build first" >&2; exit 1; }
clients=("$@")
[ $# -gt 0 ] || clients=(proxmoxer exporter ansible node go rust)

work=$(mktemp -d)
server=
end() {
  for process in $server $(jobs -p); do
    kill "$process" 2>/dev/null || true
  done
  wait
  rm -rf "$work"
}
trap end EXIT

language_of() {
  case $1 in
  proxmoxer | exporter | ansible) echo python ;;
  *) echo "$1" ;;
  esac
}

# All are fetched concurrently: compilers need CPU, registries do not.
declare -A bringing=() folder=()
for client in "${clients[@]}"; do
  language=$(language_of "$client")
  [ -z "${bringing[$language]:-}" ] || continue
  nice "$here/bring.sh" "$language" >"$work/$language.folder" 2>"$work/$language.told" &
  bringing[$language]=$!
done

# Waits for a language's clients; fails if they are skipped.
brought() {
  local code=0
  if [ -z "${folder[$1]:-}" ]; then
    wait "${bringing[$1]}" || code=$?
    cat "$work/$1.told" >&2
    case $code in
    0) folder[$1]=$(cat "$work/$1.folder") ;;
    3) folder[$1]=none ;;
    *) exit "$code" ;;
    esac
  fi
  [ "${folder[$1]}" != none ]
}

# Starts a simulator and writes its endpoints and CA to $site. The seed beside them installs the guest's
# agent: created with genisoimage -V cidata -J -R from user-data, meta-data and network-config.
begin() {
  site=$work/$1
  mkdir "$site"
  gzip -dc "$here/seed.iso.gz" >"$site/seed.iso"
  "$k8sha" sim --quiet >"$site/endpoints.json" &
  server=$!
  until [ -s "$site/endpoints.json" ]; do
    kill -0 "$server" 2>/dev/null || { echo 'the simulator did not start' >&2; exit 1; }
    sleep 0.1
  done
  # The first of these is the first host's, and the hosts of a cluster share one.
  grep -o '"ca":"[^"]*"' "$site/endpoints.json" | head -n 1 | cut -d '"' -f 4 | sed 's/\\n/\n/g' >"$site/ca.pem"
  grep -q 'BEGIN CERTIFICATE' "$site/ca.pem" || { echo 'the endpoints have no CA' >&2; exit 1; }
}

# A simulator that is asked to stop does so without an error.
finish() {
  kill -TERM "$server"
  wait "$server" || { echo "the simulator exited with $?" >&2; exit 1; }
  server=
}

run_proxmoxer() {
  "$1/venv/bin/python" "$here/python/proxmoxer_client.py" "$site/endpoints.json"
}

run_exporter() {
  "$1/venv/bin/python" "$here/python/exporter_client.py" "$site/endpoints.json" "$site/ca.pem"
}

run_ansible() {
  "$here/python/ansible.sh" "$1" "$site"
}

run_node() {
  # A module is looked up beside the file that imports it.
  cp "$here/node/client.mjs" "$site/client.mjs"
  ln -s "$1/node_modules" "$site/node_modules"
  NODE_EXTRA_CA_CERTS=$site/ca.pem node "$site/client.mjs" "$site/endpoints.json" "$site/seed.iso"
}

run_go() {
  "$1/client" "$site/endpoints.json" "$site/ca.pem"
}

run_rust() {
  # reqwest uses the machine's certificates, which this variable replaces with those in a file.
  SSL_CERT_FILE=$site/ca.pem "$1/target/debug/foreign-clients" "$site/endpoints.json" "$site/seed.iso"
}

passed=()
skipped=()
for client in "${clients[@]}"; do
  echo "== $client"
  language=$(language_of "$client")
  if ! brought "$language"; then
    echo "SKIPPED: $client"
    skipped+=("$client")
    continue
  fi
  begin "$client"
  "run_$client" "${folder[$language]}"
  finish
  passed+=("$client")
done
echo "foreign clients: passed: ${passed[*]:-none}"
[ ${#skipped[@]} = 0 ] || echo "SKIPPED: foreign clients: ${skipped[*]}"
