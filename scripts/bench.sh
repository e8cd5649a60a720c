#!/usr/bin/env bash
# Runs a bench and writes what it measured. benches/README.md says what the figures mean.
#
#   scripts/bench.sh recovery [--meetings N] [--trials N] [--json FILE] [--svg FILE] [--no-peers] …
#   scripts/bench.sh worker [--json FILE] …
#
# recovery   kills dispatch servers under load at up to 1,000,000 meetings; then, for comparison, what others
#            take to have their meetings again (benches/peers), unless --no-peers
# worker     what a report costs a worker over rings in memory, in time, instructions and allocations; two workers against one
#
# Exits non-zero if a target is missed. Other options are the bench's own: --help after the name lists them.
set -euo pipefail
# A relative FILE is meant from where this was called.
called_from="$PWD"
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Huge pages for a table of 1,000,000 meetings with ten members each.
readonly PEERS_PAGES=1000

usage() { sed -n '2,11s/^# \{0,1\}//p' "scripts/$(basename "${BASH_SOURCE[0]}")"; }

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
    local bench stage="baton-demo-$$" held=0
    bench="$(built recovery)"
    # The program clears its stage itself; killed outright, it cannot.
    trap '"'"$bench"'" --clear "'"$stage"'"' EXIT
    "$bench" --stage "$stage" "${arguments[@]}" || held=$?

    if ((peers)) && [[ -f benches/peers/Cargo.toml ]]; then
        local theirs
        theirs="$(mktemp)"
        trap 'rm -f "'"$theirs"'"; "'"$bench"'" --clear "'"$stage"'"' EXIT
        scripts/setup-peers.sh
        say "the same with what others use"
        # Baton's table lies on huge pages, as on dispatch hardware, where the kernel lends enough of them.
        local huge before memory=/dev/shm
        huge="$(mktemp -d)"
        before="$(</proc/sys/vm/nr_hugepages)"
        trap 'umount "'"$huge"'" 2>/dev/null; rmdir "'"$huge"'"; echo '"$before"' >/proc/sys/vm/nr_hugepages
            rm -f "'"$theirs"'"; "'"$bench"'" --clear "'"$stage"'"' EXIT
        echo $((before + PEERS_PAGES)) >/proc/sys/vm/nr_hugepages
        if (($(</proc/sys/vm/nr_hugepages) >= before + PEERS_PAGES)) &&
            mount -t hugetlbfs -o pagesize=2M none "$huge"; then
            memory="$huge"
        else
            say "no $PEERS_PAGES huge pages: Baton's table lies on tmpfs"
        fi
        cargo run --release --locked --quiet --manifest-path benches/peers/Cargo.toml -- \
            --json "$theirs" --memory "$memory" || held=$?
        if [[ -n "$json" && -s "$json" && -s "$theirs" ]]; then
            "$bench" --json "$json" --merge "$theirs" || held=$?
        fi
    fi
    return "$held"
}

worker() {
    local arguments=()
    while (($#)); do
        case "$1" in
            --json | --profile)
                (($# >= 2)) || die "$1 needs a file"
                local file="$2"
                [[ "$file" == /* ]] || file="$called_from/$file"
                arguments+=("$1" "$file")
                shift 2
                ;;
            *) arguments+=("$1") && shift ;;
        esac
    done
    say "building"
    local bench
    bench="$(built worker)"
    "$bench" "${arguments[@]}"
}

name="${1:-}"
(($#)) && shift
case "$name" in
    recovery) recovery "$@" ;;
    worker) worker "$@" ;;
    -h | --help) usage ;;
    "") usage >&2 && exit 2 ;;
    *) die "no bench is called $name; there are: recovery, worker" ;;
esac
