# shellcheck shell=bash
# Functions that the scripts for the kernel's packet generator share; sourced, never run. Each has
# set -euo pipefail before.
#
# pktgen is driven through /proc/net/pktgen: a file for the whole, one for each of its threads (one
# a CPU), and one for each device that was given to a thread. A script takes threads that nobody
# uses, and gives them back however it ends.

pktgen=/proc/net/pktgen
script="${0##*/}"
# Devices given to threads so far, as DEVICE@THREAD, and the interface whose egress hook is ours.
given=()
hooked=''
starter=''

say() { printf '%s: %s\n' "$script" "$*" >&2; }
verbose() { [[ -z "$VERBOSE" ]] || say "$*"; }
# Exit codes. It could not be done: 1. The command line was wrong: 2.
die() {
    say "$*"
    exit 1
}
wrong() {
    say "$*"
    say "see $script -h"
    exit 2
}

# The comment at the top of the script is its help; the common parameters follow.
usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    cat <<'HELP'
Parameters, and the variables of the environment that mean the same:
  -i DEV       the interface to send on, needed                               DEV
  -m MAC       the receiver's MAC, needed                                     DST_MAC
  -d IP        the receiver's IPv4 address         (default 198.18.0.42)      DEST_IP
  -p PORT      the UDP port of probes              (default 9)                DST_PORT
  -s BYTES     of a frame, without its checksum    (default 60)               PKT_SIZE
  -t COUNT     threads, each on a queue of its own (default 1)                THREADS
  -f NUMBER    the first thread: that of CPU 0, 1… (default 0)                F_THREAD
  -n COUNT     frames of each thread, 0 for no end (default 100000)           COUNT
  -c COUNT     times that a frame is sent again    (default 0)                CLONE_SKB
  -b COUNT     frames of one kind in a burst       (default 1)                BURST
  -w NS        between two frames of a thread      (default 0)                DELAY
  -v           says what is done                                              VERBOSE
  -h, --help   this
A frame that is sent again bears the sequence that it bore: for loss and order, leave -c and -b alone.
Exit codes: 0 sent, `Result: OK`; 1 it could not be done; 2 typed wrong.
HELP
}

help() {
    usage || true
    exit 0
}

# A whole number within bounds.
number() {
    local flag="$1" value="$2" least="$3" most="$4"
    [[ "$value" =~ ^[0-9]{1,18}$ ]] && ((10#$value >= least && 10#$value <= most)) ||
        wrong "$flag takes a number from $least to $most, not '$value'"
}

# Reads the command line, which overrides the environment. `more` are flags of one script, with
# their colons; `extra` is called with each.
parameters() {
    local more="$1" flag
    shift
    DEV="${DEV:-}" DST_MAC="${DST_MAC:-}" DEST_IP="${DEST_IP:-198.18.0.42}" DST_PORT="${DST_PORT:-9}"
    PKT_SIZE="${PKT_SIZE:-60}" THREADS="${THREADS:-1}" F_THREAD="${F_THREAD:-0}" COUNT="${COUNT:-100000}"
    CLONE_SKB="${CLONE_SKB:-0}" BURST="${BURST:-1}" DELAY="${DELAY:-0}" VERBOSE="${VERBOSE:-}"
    [[ "${1:-}" != --help ]] || help
    while getopts ":i:m:d:p:s:t:f:n:c:b:w:vh$more" flag; do
        case "$flag" in
            i) DEV="$OPTARG" ;;
            m) DST_MAC="$OPTARG" ;;
            d) DEST_IP="$OPTARG" ;;
            p) DST_PORT="$OPTARG" ;;
            s) PKT_SIZE="$OPTARG" ;;
            t) THREADS="$OPTARG" ;;
            f) F_THREAD="$OPTARG" ;;
            n) COUNT="$OPTARG" ;;
            c) CLONE_SKB="$OPTARG" ;;
            b) BURST="$OPTARG" ;;
            w) DELAY="$OPTARG" ;;
            v) VERBOSE=1 ;;
            h) help ;;
            :) wrong "-$OPTARG needs a value" ;;
            \?) wrong "there is no -$OPTARG" ;;
            *) extra "$flag" "${OPTARG:-}" ;;
        esac
    done
    shift $((OPTIND - 1))
    (($# == 0)) || wrong "'$1' is not understood"

    [[ -n "$DEV" ]] || wrong "-i says the interface to send on"
    [[ -n "$DST_MAC" ]] || wrong "-m says the receiver's MAC: ip link there shows it"
    [[ "$DST_MAC" =~ ^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$ ]] || wrong "-m takes a MAC such as 02:00:00:00:00:01, not '$DST_MAC'"
    [[ "$DEST_IP" =~ ^([0-9]{1,3}\.){3}[0-9]{1,3}$ ]] || wrong "-d takes an IPv4 address, not '$DEST_IP'"
    number -p "$DST_PORT" 1 65535
    number -s "$PKT_SIZE" 60 9000
    number -t "$THREADS" 1 1024
    number -f "$F_THREAD" 0 4095
    number -n "$COUNT" 0 1000000000000
    number -c "$CLONE_SKB" 0 1000000
    number -b "$BURST" 1 10000
    number -w "$DELAY" 0 1000000000
    [[ -d "/sys/class/net/$DEV" ]] || wrong "there is no interface $DEV"
}

# Sends pktgen a command; prints its own message if it refuses.
tell() {
    local file="$1" what="$2" answer
    verbose "$file: $what"
    if ! printf '%s\n' "$what" 2>/dev/null >"$pktgen/$file"; then
        answer="$(sed -n 's/^Result: //p' "$pktgen/$file" 2>/dev/null || true)"
        die "pktgen refuses '$what' for $file${answer:+: $answer}"
    fi
}

# Takes the threads: they may have no device of anybody else, because a start starts all of them.
prepare() {
    local thread
    [[ $EUID -eq 0 ]] || die "pktgen is root's to command: sudo $script …"
    [[ -e $pktgen/pgctrl ]] || modprobe pktgen 2>/dev/null || true
    [[ -e $pktgen/pgctrl ]] || die "this kernel has no pktgen: CONFIG_NET_PKTGEN, or its module pktgen.ko"
    trap 'clean_up $?' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    for thread in "$pktgen"/kpktgend_*; do
        grep -Eq '^(Running|Stopped): *[^ ]' "$thread" && die "${thread##*/} has devices already: another run? ($pktgen/pgctrl takes 'reset')"
    done
    for ((at = F_THREAD; at < F_THREAD + THREADS; at++)); do
        [[ -e "$pktgen/kpktgend_$at" ]] || wrong "there is no thread $at: pktgen has one for each CPU"
    done
}

# Gives back everything that was taken. Runs once, however the script ends.
clean_up() {
    local code="$1" device
    trap - EXIT INT TERM HUP
    set +e
    if [[ -n "$starter" ]]; then
        printf 'stop\n' >"$pktgen/pgctrl"
        wait "$starter"
    fi
    for device in "${given[@]}"; do
        printf 'rem_device_all\n' >"$pktgen/kpktgend_${device##*@}"
    done
    [[ -z "$hooked" ]] || unhook
    exit "$code"
}

# Adds the interface to each thread, and configures the sending. `settle` is called with each device
# and its thread's index for a script's own settings.
devices() {
    local queues place thread device
    queues="$(find "/sys/class/net/$DEV/queues" -maxdepth 1 -name 'tx-*' | wc -l)"
    ((THREADS <= queues)) || say "$DEV has $queues transmit queues for $THREADS threads: some share one"
    for ((place = 0; place < THREADS; place++)); do
        thread=$((F_THREAD + place))
        device="$DEV@$thread"
        tell "kpktgend_$thread" "add_device $device"
        given+=("$device")
        tell "$device" "count $COUNT"
        tell "$device" "clone_skb $CLONE_SKB"
        tell "$device" "pkt_size $PKT_SIZE"
        tell "$device" "delay $DELAY"
        tell "$device" "dst_mac $DST_MAC"
        tell "$device" "dst $DEST_IP"
        [[ -z "${SRC_IP:-}" ]] || {
            tell "$device" "src_min $SRC_IP"
            tell "$device" "src_max $SRC_IP"
        }
        tell "$device" "queue_map_min $((place % queues))"
        tell "$device" "queue_map_max $((place % queues))"
        settle "$device" "$place"
    done
}

# Starts and returns at once. The devices tell how much was sent so far.
start() {
    # A separate process, because the write ends when everything was sent.
    (trap - EXIT INT TERM HUP && printf 'start\n' >"$pktgen/pgctrl") &
    starter=$!
}

# Waits for the end, and prints the result.
finish() {
    wait "$starter" || true
    starter=''
    results
}

results() {
    local device failed=0
    for device in "${given[@]}"; do
        printf 'Device: %s\n' "$device"
        sed -n '/^Result:/,$p' "$pktgen/$device"
        grep -q '^Result: OK' "$pktgen/$device" || failed=1
    done
    ((failed == 0)) || die "not all was sent: see the results"
}

# Frames sent so far, and frames that the interface refused, over all devices.
sent_so_far() {
    local device
    for device in "${given[@]}"; do
        sed -n 's/^ *pkts-sofar: *\([0-9]*\) *errors: *\([0-9]*\).*/\1 \2/p' "$pktgen/$device"
    done | awk '{ sent += $1; errors += $2 } END { print sent + 0, errors + 0 }'
}

# Each thread's probes are a separate flow, so that each flow has one sequence.
probes_of() {
    local device="$1" place="$2"
    tell "$device" "burst $BURST"
    tell "$device" "udp_dst_min $DST_PORT"
    tell "$device" "udp_dst_max $DST_PORT"
    tell "$device" "udp_src_min $((1024 + F_THREAD + place))"
    tell "$device" "udp_src_max $((1024 + F_THREAD + place))"
}
