# shellcheck shell=bash
# How pktgen's frames become reports; sourced by the scripts that send them. The program
# bpf/reports.bpf.c runs at the interface's egress hook and overwrites each of pktgen's
# frames with a REPORT.

# The frame of a report, without an 802.1Q tag or a label.
report_bytes=96

# Reads the settings of reports from the environment, and checks them.
report_settings() {
    DISPATCH="${DISPATCH:-1/65535}" DOMAIN="${DOMAIN:-366}" BASE="${BASE:-1001}" TERMINALS="${TERMINALS:-200}"
    MEMBERS="${MEMBERS:-10}" ETHERTYPE="${ETHERTYPE:-0x88b5}" OBJECT="${OBJECT:-}"
    # Reports count upwards from run to run, in serial arithmetic: a second advances the version
    # by more than a terminal can report in it.
    VERSION="${VERSION:-$((($(date +%s) * 8192) % 4294967296))}"
    [[ "$DISPATCH" =~ ^[0-9]{1,12}/[0-9]{1,5}$ ]] || wrong "DISPATCH is an address such as 1/65535, not '$DISPATCH'"
    [[ "$ETHERTYPE" =~ ^0x[0-9A-Fa-f]{4}$ ]] || wrong "ETHERTYPE is such as 0x88b5, not '$ETHERTYPE'"
    number DOMAIN "$DOMAIN" 1 1099511627775
    number BASE "$BASE" 1 65535
    number TERMINALS "$TERMINALS" 1 $((65536 - BASE))
    number MEMBERS "$MEMBERS" 1 65535
    number VERSION "$VERSION" 0 4294967295
    ((TERMINALS % THREADS == 0)) || wrong "TERMINALS has to be a multiple of the threads, so that a terminal's reports keep their order"
    ((CLONE_SKB == 0)) || wrong "-c sends a frame again as it is, and each report is written once: leave it 0"
    ((BURST == 1)) || wrong "-b passes by the egress hook, where reports are written: leave it 1"
    ((PKT_SIZE == 60 || PKT_SIZE >= report_bytes)) || wrong "-s: a report has $report_bytes bytes"
    ((PKT_SIZE >= report_bytes)) || PKT_SIZE=$report_bytes
    [[ -z "$OBJECT" || -f "$OBJECT" ]] || wrong "OBJECT: there is no file $OBJECT"
}

# Compiles the program for these settings, unless OBJECT names a compiled one, and attaches it to
# the egress hook.
hook() {
    local made='' root
    command -v tc >/dev/null || die "tc is not here: apt-get install iproute2"
    tc filter show dev "$DEV" egress 2>/dev/null | grep -q baton_reports && die "another run is at the egress hook of $DEV"
    if [[ -z "$OBJECT" ]]; then
        command -v clang >/dev/null || die "clang is not here, which compiles the program: apt-get install clang libbpf-dev"
        root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
        made="$(mktemp -d)"
        OBJECT="$made/reports.bpf.o"
        clang -target bpf -mcpu=v3 -O2 -g -Wall -Werror -I"$root/bpf" -idirafter /usr/include -idirafter "/usr/include/$(uname -m)-linux-gnu" \
            -DDISPATCH_DOMAIN="${DISPATCH%/*}" -DDISPATCH_DEVICE="${DISPATCH#*/}" -DDOMAIN="$DOMAIN" -DBASE="$BASE" \
            -DTERMINALS="$TERMINALS" -DMEMBERS="$MEMBERS" -DETHERTYPE="$ETHERTYPE" \
            -c "$root/bpf/reports.bpf.c" -o "$OBJECT" || { rm -r "$made" && die "clang refuses bpf/reports.bpf.c"; }
    fi
    verbose "$DEV: bpf/reports.bpf.c at the egress hook"
    # An existing qdisc is left in place.
    if tc qdisc show dev "$DEV" clsact 2>/dev/null | grep -q clsact; then hooked=filter; else
        tc qdisc add dev "$DEV" clsact || die "$DEV takes no egress hook: CONFIG_NET_SCH_INGRESS, or the module sch_ingress"
        hooked=qdisc
    fi
    tc filter add dev "$DEV" egress prio 49000 handle 1 bpf direct-action object-file "$OBJECT" section tc || {
        [[ -z "$made" ]] || rm -r "$made"
        die "tc cannot load the program: CONFIG_NET_CLS_BPF, or the module cls_bpf"
    }
    [[ -z "$made" ]] || rm -r "$made"
}

unhook() {
    case "$hooked" in
        qdisc) tc qdisc del dev "$DEV" clsact ;;
        filter) tc filter del dev "$DEV" egress prio 49000 2>/dev/null ;;
    esac
}

# Sets what the program reads from a frame of pktgen: the thread's number, the number of threads,
# and the first version.
reports_of() {
    local device="$1" place="$2"
    # Through the network stack, because the driver's own path bypasses the hook.
    tell "$device" "xmit_mode queue_xmit"
    tell "$device" "skb_priority $VERSION"
    tell "$device" "udp_src_min $place"
    tell "$device" "udp_src_max $place"
    tell "$device" "udp_dst_min $THREADS"
    tell "$device" "udp_dst_max $THREADS"
}
