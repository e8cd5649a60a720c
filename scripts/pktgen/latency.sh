#!/usr/bin/env bash
# Measures round trips to a dispatch server while the kernel's packet generator loads it:
# `baton load` sends PROBEs, which come back, as pktgen sends probes over UDP, or with WHAT=reports
# reports (see reports.sh for what those take), on the same interface.
#
#   scripts/pktgen/latency.sh -i eth1 -m 02:00:00:00:00:01 -w 20000 -r 2000 -l 30
#
#   -r RATE      round trips a second                (default 1000)             RATE
#   -l SECONDS   how long                            (default 10)               LENGTH
#   -o FILE      their latencies, second by second, as a histogram log          HLOG
#
# BATON is the program (default: baton, else target/release/baton or target/debug/baton). CONFIG is
# the server's configuration; without it the domain is DOMAIN (366), without a secret. The domain's
# next hop must be this machine: if several send for it, the answers go to the last.
#
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/reports.inc.sh"

RATE="${RATE:-1000}" LENGTH="${LENGTH:-10}" HLOG="${HLOG:-}" WHAT="${WHAT:-probes}" DOMAIN="${DOMAIN:-366}" CONFIG="${CONFIG:-}"
extra() {
    case "$1" in
        r) RATE="$2" ;;
        l) LENGTH="$2" ;;
        o) HLOG="$2" ;;
    esac
}
COUNT=0
parameters "r:l:o:" "$@"
number -r "$RATE" 1 10000000
number -l "$LENGTH" 1 86400
((COUNT == 0)) || wrong "-l says how long it sends, not -n"
case "$WHAT" in
    probes) settle() { probes_of "$@"; } ;;
    reports)
        report_settings
        settle() { reports_of "$@"; }
        ;;
    *) wrong "WHAT is probes or reports, not '$WHAT'" ;;
esac
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
for program in "${BATON:-}" "$(command -v baton || true)" "$root/target/release/baton" "$root/target/debug/baton"; do
    [[ -n "$program" && -x "$program" ]] && break
done
[[ -x "$program" ]] || die "no baton here: BATON says where it is, cargo build --release makes it"
load=("$program" load --what probes --interface "$DEV" --dispatch-mac "$DST_MAC" --rate "$RATE" --for "${LENGTH}s")
if [[ -n "$CONFIG" ]]; then load+=(--config "$CONFIG"); else load+=(--insecure-no-authentication --domains "$DOMAIN"); fi
[[ -z "$HLOG" ]] || load+=(--hlog "$HLOG")

prepare
[[ "$WHAT" == probes ]] || hook
devices
start
measured=0
"${load[@]}" || measured=$?
printf 'stop\n' >"$pktgen/pgctrl"
finish
((measured == 0)) || die "baton load could not measure"
