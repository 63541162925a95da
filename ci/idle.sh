#!/usr/bin/env bash
# A stream through HAProxy that is silent for ten minutes; it runs beside everything else.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"

K8SHA_REAL=1 cargo test --locked --test real -- --ignored idle_for_ten_minutes
