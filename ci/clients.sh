#!/usr/bin/env bash
# Third-party Proxmox VE clients against the simulator. Clients that cannot be installed are SKIPPED:
# their language is missing, or the registry does not answer.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"

cargo build --locked
tests/foreign/run.sh
