#!/usr/bin/env bash
# Format, warnings as errors, documentation without warnings, and the build without the simulator.
set -euo pipefail
cd "$(git rev-parse --show-toplevel)"

cargo fmt --all --check
cargo fmt --manifest-path tests/foreign/rust/Cargo.toml --check
cargo clippy --locked --all-targets -- -D warnings
cargo clippy --locked -p k8sha-lab --all-targets -- -D warnings
# Every dependency must be used: one that no code uses fails.
for crate in k8sha-base k8sha-proxmox k8sha-simulator k8sha k8sha-lab; do
  cargo clippy --locked -p "$crate" --lib -- -D unused_crate_dependencies
done
cargo clippy --locked -p k8sha --no-default-features -- -D warnings
# Private items are documented too, and the docs of public ones may link to them.
RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' \
  cargo doc --locked --workspace --no-deps --document-private-items --quiet
# Licences, sources and bans by deny.toml; the advisories need the network.
if command -v cargo-deny >/dev/null; then
  cargo deny --offline check bans licenses sources
else
  echo 'SKIPPED: cargo-deny is not installed (cargo install --locked cargo-deny)'
fi
