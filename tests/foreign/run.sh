#!/usr/bin/env bash
# Other people's Proxmox VE clients against `k8sha sim`: proxmoxer, and Ansible's collection
# community.proxmox. They know nothing of k8sha, so what they can do here they can do because the
# simulator answers as Proxmox VE does.
#
#   cargo build && tests/foreign/run.sh
#
# The clients come from PyPI, at the versions named here and in requirements.txt, into `target/`.
# Everything is verified with the simulator's own CA; nothing leaves this machine after that.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"
here=tests/foreign
k8sha=${K8SHA:-target/debug/k8sha}
ansible=12.3.0 # community.proxmox 1.4.0 is in it

[ -x "$k8sha" ] || { echo "$k8sha is missing: run cargo build first" >&2; exit 1; }

# The clients stay for the next run, as long as they are the same.
kept=target/foreign
venv=$kept/venv
wanted=$(cat "$here/requirements.txt" <(echo "$ansible") | sha256sum)
if [ "$(cat "$kept/installed" 2>/dev/null)" != "$wanted" ]; then
  echo "installing the clients of $here/requirements.txt"
  rm -rf "$kept"
  mkdir -p "$kept"
  python3 -m venv "$venv"
  pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
  pip install --requirement "$here/requirements.txt" ||
    { echo 'pip cannot install the foreign clients' >&2; exit 1; }
  pip download --no-deps --only-binary :all: --dest "$kept" "ansible==$ansible" ||
    { echo 'pip cannot download the Ansible collection' >&2; exit 1; }
  "$venv/bin/python" - "$kept" <<'PYTHON'
import pathlib, sys, zipfile
kept = pathlib.Path(sys.argv[1])
(wheel,) = kept.glob("ansible-*.whl")
with zipfile.ZipFile(wheel) as files:
    wanted = "ansible_collections/community/proxmox/"
    names = [name for name in files.namelist() if name.startswith(wanted)]
    assert names, f"{wheel} has no {wanted}"
    files.extractall(kept / "collections", names)
wheel.unlink()
PYTHON
  echo "$wanted" >"$kept/installed"
fi

work=$(mktemp -d)
"$k8sha" sim --quiet >"$work/endpoints.json" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
until [ -s "$work/endpoints.json" ]; do
  kill -0 "$server" 2>/dev/null || { echo 'the simulator did not start' >&2; exit 1; }
  sleep 0.1
done

echo '== proxmoxer'
"$venv/bin/python" "$here/proxmoxer_client.py" "$work/endpoints.json"

echo '== Ansible: community.proxmox'
# What the modules and the playbook read from the environment: secrets stand in no argument.
"$venv/bin/python" - "$work" <<'PYTHON'
import json, pathlib, shlex, sys, urllib.parse
work = pathlib.Path(sys.argv[1])
host = json.loads((work / "endpoints.json").read_text())["hosts"]["pve1"]
(work / "ca.pem").write_text(host["ca"])
(work / "foreign-ansible.iso").write_bytes(b"\0" * 64 * 1024)
url = urllib.parse.urlsplit(host["url"])
user, token = host["token"].split("!", 1)
name, secret = token.split("=", 1)
environment = {
    "PROXMOX_HOST": url.hostname, "PROXMOX_PORT": str(url.port), "PROXMOX_USER": user,
    "PROXMOX_TOKEN_ID": name, "PROXMOX_TOKEN_SECRET": secret,
    "PROXMOX_VALIDATE_CERTS": "true", "REQUESTS_CA_BUNDLE": str(work / "ca.pem"),
    "FOREIGN_ROOT_PASSWORD": host["root_password"], "FOREIGN_WORK": str(work),
    "ANSIBLE_HOME": str(work / "ansible"),
}
lines = [f"export {key}={shlex.quote(value)}\n" for key, value in environment.items()]
(work / "environment").write_text("".join(lines))
PYTHON
. "$work/environment"
export ANSIBLE_CONFIG=$here/ansible.cfg ANSIBLE_COLLECTIONS_PATH=$PWD/$kept/collections
play() {
  "$venv/bin/ansible-playbook" "$here/playbook.yaml" "$@" | tee "$work/played"
}
play --tags make,check,change
echo '-- again: nothing is left to do'
play --tags make,check
grep -q 'changed=0 ' "$work/played" ||
  { echo 'the second run changed something' >&2; exit 1; }
play --tags errors
play --inventory "$here/inventory.yaml" --inventory "$here/site.proxmox.yaml" --tags listed
play --tags remove
play --tags remove
grep -q 'changed=0 ' "$work/played" ||
  { echo 'the second removal changed something' >&2; exit 1; }

# A request to end is obeyed, and is no failure.
kill -TERM "$server"
wait "$server" || { echo "the simulator ended with $?" >&2; exit 1; }
echo 'foreign clients: all passed'
