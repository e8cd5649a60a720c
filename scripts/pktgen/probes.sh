#!/usr/bin/env bash
# Sends probes over UDP with the kernel's packet generator (docs/wire.md, probes of a packet
# generator). A dispatch server whose configuration says `probe_port` counts them as
# generator_probes.
#
#   scripts/pktgen/probes.sh -i eth1 -m 02:00:00:00:00:01 -n 1000000          one thread, one queue
#   scripts/pktgen/probes.sh -i eth1 -m 02:00:00:00:00:01 -n 1000000 -t 4     four, each a flow of
#                                                                             its own
#
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

parameters "" "$@"
settle() { probes_of "$@"; }
prepare
devices
start
finish
