#!/usr/bin/env bash
# The main job on real frames: a dispatch server, four autonomous servers, 1,000 conferences, 10,000
# terminals, and everything that can die, dying. Prints what was lost, and exits non-zero if that is
# anything at all.
#
#   scripts/demo.sh [--json FILE]
set -euo pipefail
# A relative FILE is meant from where this was called.
called_from="$PWD"
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root "the demonstration"

arguments=()
while (($#)); do
    case "$1" in
        --json)
            (($# >= 2)) || die "--json needs a file"
            [[ "$2" == /* ]] && arguments+=(--json "$2") || arguments+=(--json "$called_from/$2")
            shift 2
            ;;
        -h | --help)
            sed -n '2,/^[^#]/s/^# \{0,1\}//p' "scripts/$(basename "${BASH_SOURCE[0]}")"
            exit 0
            ;;
        *) arguments+=("$1") && shift ;;
    esac
done

scripts/setup.sh
say "building"
cargo build --locked --release --quiet

# The program clears its testbed itself; killed outright, it cannot.
baton="${CARGO_TARGET_DIR:-target}/release/baton"
testbed="baton-demo-$$"
trap '"$baton" demo --clear "$testbed"' EXIT
"$baton" demo --testbed "$testbed" "${arguments[@]}"
