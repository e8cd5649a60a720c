#!/usr/bin/env bash
# Runs a bench and prints its results. benches/README.md explains the figures.
#
#   scripts/bench.sh recovery [--meetings N] [--trials N] [--json FILE] [--svg FILE] [--no-peers] …
#   scripts/bench.sh worker|serving|sla|table|wire|dataplane [--json FILE] …
#
#   recovery   kills dispatch servers under load at up to 1,000,000 meetings; then, for comparison,
#              how long other software takes to have its meetings back (benches/peers), unless
#              --no-peers
# worker     what a report costs a worker over rings in memory, in time, instructions and
#            allocations; two workers against one
# serving    a real dispatch server under load: waiting, idling, a minute without loss, a flood of
#            forgeries
# sla        a server under load whose engine is killed once, and what `baton sla` finds in its logs
#            [--html FILE]
# table      updates and look-ups of the table, DashMap, papaya, scc and LMDB (benches/structures)
# wire       what a frame costs to read and to write (benches/structures)
# dataplane  receivers and echoers on one veth pair: Baton, testpmd, xdpilone, xsk-rs, AF_PACKET
#            (benches/dataplane)
#
# Exits non-zero if a target is missed. Other options are the bench's own: --help after the name
# lists them.
set -euo pipefail
# A relative FILE is relative to the caller's folder.
called_from="$PWD"
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Clean-up commands, run however this ends; the last one first.
clearing=()
clear_away() {
    local n
    for ((n = ${#clearing[@]} - 1; n >= 0; n--)); do eval "${clearing[n]}"; done
}
trap clear_away EXIT

usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "scripts/$(basename "${BASH_SOURCE[0]}")"; }

# Where programs are built.
target="${CARGO_TARGET_DIR:-target}/release"

# A program that borrows huge pages gives them back itself; killed outright, it cannot.
gives_back() { clearing+=("'$1' $2"); }

# The path of the bench's program, built.
built() {
    cargo build --locked --release --quiet --bench "$1"
    cargo build --locked --release --bench "$1" --message-format json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*\/'"$1"'-[^"]*\)".*/\1/p' | tail -n 1
}

recovery() {
    local arguments=() json="" peers=1
    while (($#)); do
        case "$1" in
            --json | --svg)
                (($# >= 2)) || die "$1 needs a file"
                local file="$2"
                [[ "$file" == /* ]] || file="$called_from/$file"
                [[ "$1" == --json ]] && json="$file"
                arguments+=("$1" "$file")
                shift 2
                ;;
            --no-peers) peers=0 && shift ;;
            -h | --help) peers=0 && arguments+=(--help) && shift ;;
            *) arguments+=("$1") && shift ;;
        esac
    done
    need_root "the recovery bench"
    scripts/setup.sh
    say "building"
    local bench testbed="baton-demo-$$" held=0
    bench="$(built recovery)"
    # The program clears its testbed itself; killed outright, it cannot.
    clearing+=("'$bench' --clear '$testbed'")
    "$bench" --testbed "$testbed" "${arguments[@]}" || held=$?

    if ((peers)) && [[ -f benches/peers/Cargo.toml ]]; then
        local theirs
        theirs="$(mktemp)"
        clearing+=("rm -f '$theirs'")
        scripts/setup-peers.sh
        say "the same with what others use"
        cargo build --release --locked --quiet --package peers
        gives_back "$target/peers" give-back
        "$target/peers" --json "$theirs" || held=$?
        if [[ -n "$json" && -s "$json" && -s "$theirs" ]]; then
            "$bench" --json "$json" --merge "$theirs" || held=$?
        fi
    fi
    return "$held"
}

# Sets `arguments` to the arguments, with files relative to the caller's folder.
with_files_from_caller() {
    arguments=()
    while (($#)); do
        case "$1" in
            --json | --profile | --html)
                (($# >= 2)) || die "$1 needs a file"
                [[ "$2" == /* ]] && arguments+=("$1" "$2") || arguments+=("$1" "$called_from/$2")
                shift
                ;;
            *) arguments+=("$1") ;;
        esac
        shift
    done
}

worker() {
    with_files_from_caller "$@"
    say "building"
    local bench
    bench="$(built worker)"
    gives_back "$bench" --give-back
    "$bench" "${arguments[@]}"
}

# A bench that runs on a testbed of its own.
on_testbed() {
    local name="$1" bench testbed="baton-demo-$$"
    shift
    with_files_from_caller "$@"
    need_root "the $name bench"
    scripts/setup.sh
    say "building"
    bench="$(built "$name")"
    # The program clears its testbed itself; killed outright, it cannot.
    clearing+=("'$bench' --clear '$testbed'")
    "$bench" --testbed "$testbed" "${arguments[@]}"
}

serving() { on_testbed serving "$@"; }

sla() { on_testbed sla "$@"; }

table() {
    with_files_from_caller "$@"
    cargo build --release --locked --quiet --package structures
    gives_back "$target/structures" give-back
    "$target/structures" table "${arguments[@]}"
}

wire() {
    with_files_from_caller "$@"
    cargo run --release --locked --quiet --package structures -- wire "${arguments[@]}"
}

dataplane() {
    with_files_from_caller "$@"
    need_root "the dataplane bench"
    scripts/setup.sh
    scripts/setup-peers.sh dataplane
    cargo build --release --locked --quiet --package dataplane
    cargo build --release --locked --quiet --manifest-path benches/dataplane/xsk-rs/Cargo.toml
    # The program clears its namespaces away itself; killed outright, it cannot.
    local testbed="baton-dp$$"
    clearing+=("for side in l r; do ip netns delete '$testbed'\$side 2>/dev/null || true; done")
    gives_back "$target/dataplane" --give-back
    "$target/dataplane" --testbed "$testbed" "${arguments[@]}"
}

name="${1:-}"
(($#)) && shift
case "$name" in
    recovery | worker | serving | sla | table | wire | dataplane) "$name" "$@" ;;
    -h | --help) usage ;;
    "") usage >&2 && exit 2 ;;
    *) die "no bench is called $name; there are: recovery, worker, serving, sla, table, wire, dataplane" ;;
esac
