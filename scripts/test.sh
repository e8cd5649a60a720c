#!/usr/bin/env bash
# All that a change has to pass: format, lints, build, documentation, every test.
# Needs root, for the tests send real frames between network namespaces. Run it alone: it kills processes of its own.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root "this"

scripts/setup.sh

say "format"
cargo fmt --check

say "lints"
cargo clippy --locked --all-targets --quiet -- -D warnings

say "build, and the BPF program with it"
cargo build --all-targets --quiet

say "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --quiet

say "every test: pure, under loom, simulated, killed, and on veth"
cargo test --no-fail-fast

say "all passed"
