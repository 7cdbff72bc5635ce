#!/usr/bin/env bash
# Makes the workspace build without a network: every crate's source goes to vendor/crates (llama.cpp among them, inside
# llama-cpp-sys-2), and vendor/offline.toml tells cargo to look there. Run it once where there is a network, copy the
# whole folder, and build with:
#
#   cargo build --release --offline --config vendor/offline.toml
set -euo pipefail
cd "$(dirname "$0")/.."
cargo vendor --locked --versioned-dirs vendor/crates >vendor/offline.toml
echo "vendored $(ls vendor/crates | wc -l) crates, $(du -sh vendor/crates | cut -f1): build with" >&2
echo "  cargo build --release --offline --config vendor/offline.toml" >&2
