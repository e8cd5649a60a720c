#!/usr/bin/env bash
# The composed simulation: the real dispatcher and worker, simulated autonomous servers, operators,
# a bad network, a slow and failing disk, and deaths at any step, all by a seed. At the end both
# sides have to agree, and nothing that was acknowledged may be lost. Each seed that fails is named
# with what is wrong; the same seed brings the same run.
#
#   scripts/simulate.sh [--seeds N] [--seed S] [--trace | --frames]
#
#   --seeds N   how many seeds, 1000 unless said otherwise; with --seed alone, that one
#   --seed S    the first of them, 1 unless said otherwise
#   --trace     prints what happens, line by line; --frames prints the frames as well
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seeds='' seed='' trace=''
while (($#)); do
    case "$1" in
        --seeds | --seed)
            (($# >= 2)) && [[ "$2" =~ ^[0-9]+$ ]] || die "$1 needs a number"
            [[ "$1" == --seeds ]] && seeds="$2" || seed="$2"
            shift 2
            ;;
        --trace) trace=1 && shift ;;
        --frames) trace=frames && shift ;;
        -h | --help)
            sed -n '2,/^[^#]/s/^# \{0,1\}//p' scripts/simulate.sh
            exit 0
            ;;
        *) die "$1 is not understood: see --help" ;;
    esac
done
[[ -n "$seeds" ]] || seeds="$([[ -n "$seed" ]] && echo 1 || echo 1000)"
export BATON_SEEDS="$seeds" BATON_SEED="${seed:-1}"
[[ -z "$trace" ]] || export BATON_TRACE="$trace"

say "simulation: $BATON_SEEDS seeds from $BATON_SEED on"
exec cargo test --locked --quiet --test simulation -- --nocapture both_sides_agree
