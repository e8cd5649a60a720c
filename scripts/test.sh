#!/usr/bin/env bash
# All checks that a change has to pass: format, lints, build, documentation, every test. Needs root,
# because the tests send real frames between network namespaces. Run nothing else beside it: it
# kills processes of its own.
#
#   scripts/test.sh          all of that
#   scripts/test.sh --long   instead, the tests that can run for any time, for hours: 10,000
#                            deaths of workers under reports, 1,000 of a server's engines, 100,000
#                            of a table's writers; BATON_DEATHS, BATON_ENGINE_DEATHS and BATON_KILLS
#                            set other numbers
#   scripts/test.sh --vm     instead, Baton under pktgen in a QEMU guest: copy mode and zero
#                            copy, igb and virtio-net (docs/pktgen.md)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
case "${1:-}" in
    '' | --long | --vm) ;;
    -h | --help)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' scripts/test.sh
        exit 0
        ;;
    *)
        printf 'error: %s is not understood: see --help\n' "$1" >&2
        exit 2
        ;;
esac
need_root "this"

scripts/setup.sh

if [[ "${1:-}" == --vm ]]; then
    scripts/vm/fetch.sh
    say "build, and the BPF program with it"
    cargo build --locked --quiet
    exec scripts/vm/run.sh
fi

if [[ "${1:-}" == --long ]]; then
    # A failure of a long run must be reproducible in a run of the usual length:
    # each prints its seed.
    say "${BATON_DEATHS:=10000} deaths of workers: every frame, chunk, slot, extent and descriptor"
    BATON_DEATHS=$BATON_DEATHS cargo test --locked --release --test adoption -- --nocapture
    say "${BATON_ENGINE_DEATHS:=1000} deaths of a server's engines"
    BATON_ENGINE_DEATHS=$BATON_ENGINE_DEATHS cargo test --locked --release --test engine_deaths -- --nocapture
    say "${BATON_KILLS:=100000} deaths of a table's writers"
    BATON_KILLS=$BATON_KILLS cargo test --locked --release --test kill_writer -- --nocapture
    say "what Baton is compared with still builds"
    cargo check --locked --package dataplane --package peers --package structures --all-targets
    say "all passed"
    exit 0
fi

say "format"
cargo fmt --check

say "lints"
cargo clippy --locked --all-targets --quiet -- -D warnings

say "build, and the BPF program with it"
cargo build --all-targets --quiet

if command -v systemd-analyze >/dev/null; then
    say "systemd's units"
    # They are checked with the program that was built, because a unit whose program is missing is
    # reported as wrong.
    units="$(mktemp -d)"
    trap 'rm -r "$units"' EXIT
    for unit in baton.service baton-metrics.service; do
        sed "s#^ExecStart=/usr/local/bin/baton#ExecStart=$PWD/target/debug/baton#" "scripts/systemd/$unit" >"$units/$unit"
    done
    verdict="$(systemd-analyze verify "$units"/*.service 2>&1)" && [[ -z "$verdict" ]] || die "$verdict"
else
    say "systemd's units are not verified: systemd-analyze is not here"
fi

say "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items --quiet

say "every test: pure, under loom, simulated, killed, and on veth"
cargo test --no-fail-fast

scripts/simulate.sh --seeds 1000

say "all passed"
