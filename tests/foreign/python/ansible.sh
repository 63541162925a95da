#!/usr/bin/env bash
# Ansible's community.proxmox against a simulator: ansible.sh FOLDER SITE, the first with the clients
# and the second with the simulator's endpoints.json and ca.pem.
set -euo pipefail
folder=$1 site=$2
cd "$(dirname "$0")"

# The environment variables of the modules and the playbook: no argument contains a secret.
"$folder/venv/bin/python" - "$site" <<'PYTHON'
import json, pathlib, shlex, sys, urllib.parse
site = pathlib.Path(sys.argv[1])
host = json.loads((site / "endpoints.json").read_text())["hosts"]["pve1"]
(site / "foreign-ansible.iso").write_bytes(b"\0" * 64 * 1024)
url = urllib.parse.urlsplit(host["url"])
user, token = host["token"].split("!", 1)
name, secret = token.split("=", 1)
environment = {
    "PROXMOX_HOST": url.hostname, "PROXMOX_PORT": str(url.port), "PROXMOX_USER": user,
    "PROXMOX_TOKEN_ID": name, "PROXMOX_TOKEN_SECRET": secret,
    "PROXMOX_VALIDATE_CERTS": "true", "REQUESTS_CA_BUNDLE": str(site / "ca.pem"),
    "FOREIGN_ROOT_PASSWORD": host["root_password"], "FOREIGN_WORK": str(site),
    "ANSIBLE_HOME": str(site / "ansible"),
}
lines = [f"export {key}={shlex.quote(value)}\n" for key, value in environment.items()]
(site / "environment").write_text("".join(lines))
PYTHON
# shellcheck source=/dev/null
. "$site/environment"
export ANSIBLE_CONFIG=ansible.cfg ANSIBLE_COLLECTIONS_PATH=$folder/collections
play() {
  "$folder/venv/bin/ansible-playbook" playbook.yaml "$@" | tee "$site/played"
}
play --tags make,check,change
echo '-- again: nothing is left to do'
play --tags make,check
grep -q 'changed=0 ' "$site/played" ||
  { echo 'the second run changed something' >&2; exit 1; }
play --tags errors
play --inventory inventory.yaml --inventory site.proxmox.yaml --tags listed
play --tags remove
play --tags remove
grep -q 'changed=0 ' "$site/played" ||
  { echo 'the second removal changed something' >&2; exit 1; }
