#!/usr/bin/env bash
# The main job on real frames: a dispatch server, four autonomous servers, 1,000 meetings, 10,000
# terminals, and a kill of every part in turn. Prints what was lost, and exits non-zero if anything
# was.
#
#   scripts/demo.sh [--json FILE]
set -euo pipefail
# A relative FILE is relative to the caller's folder.
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

# The program removes its testbed itself, unless it is killed.
baton="${CARGO_TARGET_DIR:-target}/release/baton"
testbed="baton-demo-$$"
trap '"$baton" demo --clear "$testbed"' EXIT
"$baton" demo --testbed "$testbed" "${arguments[@]}"
