#!/usr/bin/env bash
# Sends REPORTs with the kernel's packet generator: a program at the interface's egress hook
# (bpf/reports.bpf.c) overwrites its frames with them. Their tags are zero, so the receiver's domain
# needs `insecure_no_authentication = true`. Not for a server in service.
#
#   scripts/pktgen/reports.sh -i eth1 -m 02:00:00:00:00:01 -n 1000000
#   TERMINALS=2000 MEMBERS=20 scripts/pktgen/reports.sh -i eth1 -m 02:00:00:00:00:01 -n 1000000 -t 4
#
# The terminals of one domain report in turn, by the rule of `baton sim --preload` and
# `baton load`. Environment variables:
#   DISPATCH=1/65535   the dispatch server's address       DOMAIN=366      the terminals' domain
#   BASE=1001          the first terminal's device         TERMINALS=200   how many there are
#   MEMBERS=10         of them in a meeting                ETHERTYPE=0x88b5
#   VERSION            of each terminal's first report; by default one that grows from run to run
#   OBJECT             a compiled program; otherwise clang compiles it
#
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/reports.inc.sh"

parameters "" "$@"
report_settings
settle() { reports_of "$@"; }
prepare
hook
devices
start
finish
