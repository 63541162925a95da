#!/usr/bin/env bash
# Other people's Proxmox VE clients against the simulator. Those that this machine cannot have are
# SKIPPED: their language is missing, or the registry does not answer.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"

cargo build --locked
tests/foreign/run.sh
