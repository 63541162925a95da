#!/usr/bin/env bash
# The tests that need only Rust: the README's test command, and the main job on a simulated site.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"

cargo test --locked
report=$(cargo run --locked --quiet -- up --simulate --json 2>/dev/null)
python3 -c 'import json, sys
report = json.loads(sys.argv[1])
assert report["verdict"] == "done", report
ratio = report["wall_s"] / report["critical_path_s"]
print("%s nodes, wall / critical path: %.3f" % (len(report["nodes"]), ratio))' "$report"
