#!/usr/bin/env bash
# Prepares a build without a network: downloads the source of every crate to vendor/crates (llama.cpp is inside
# llama-cpp-sys-2), and writes vendor/offline.toml, which makes cargo use it. Run this with a network, copy the whole
# folder, and build with:
#
#   cargo build --release --offline --config vendor/offline.toml
set -euo pipefail
cd "$(dirname "$0")/.."
cargo vendor --locked --versioned-dirs vendor/crates >vendor/offline.toml
echo "vendored $(ls vendor/crates | wc -l) crates, $(du -sh vendor/crates | cut -f1): build with" >&2
echo "  cargo build --release --offline --config vendor/offline.toml" >&2
