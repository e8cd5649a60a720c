#!/usr/bin/env bash
# All that a change has to pass: format, lints, build, every test, the table's protocol under loom.
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

say "every test: pure, simulated, killed, and on veth"
cargo test --no-fail-fast

say "the table's slot protocol under loom"
# A target folder of its own, or each run would build everything again for the other flags.
RUSTFLAGS="--cfg loom" cargo test --release --target-dir target/loom --lib table::loom

say "all passed"
