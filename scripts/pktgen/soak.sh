#!/usr/bin/env bash
# Sends for a long time, and reports the progress: probes, or with WHAT=reports reports (see
# reports.sh for what those take).
#
#   scripts/pktgen/soak.sh -i eth1 -m 02:00:00:00:00:01 -l 3600 -w 10000
#
#   -l SECONDS   how long                            (default 60)               LENGTH
#   -e SECONDS   between two lines of output          (default 1)                EVERY
#
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/reports.inc.sh"

LENGTH="${LENGTH:-60}" EVERY="${EVERY:-1}" WHAT="${WHAT:-probes}"
extra() {
    case "$1" in
        l) LENGTH="$2" ;;
        e) EVERY="$2" ;;
    esac
}
# By default it ends by time, not by a count.
COUNT="${COUNT:-0}"
parameters "l:e:" "$@"
number -l "$LENGTH" 1 31536000
number -e "$EVERY" 1 86400
case "$WHAT" in
    probes) settle() { probes_of "$@"; } ;;
    reports)
        report_settings
        settle() { reports_of "$@"; }
        ;;
    *) wrong "WHAT is probes or reports, not '$WHAT'" ;;
esac
prepare
[[ "$WHAT" == probes ]] || hook
devices
start
began=$SECONDS before=0
while ((SECONDS - began < LENGTH)) && kill -0 "$starter" 2>/dev/null; do
    sleep "$EVERY"
    read -r sent errors < <(sent_so_far)
    printf '%6d s  %12d sent  %9d a second  %d refused by the interface\n' \
        $((SECONDS - began)) "$sent" $(((sent - before) / EVERY)) "$errors"
    before=$sent
done
printf 'stop\n' >"$pktgen/pgctrl"
finish
