#!/usr/bin/env bash
# Sets up a network interface and its machine for Baton's rings, and can restore everything.
#
#   scripts/tune-nic.sh -i INTERFACE [-q QUEUES] [-p HUGE_PAGES] [-n]
#   scripts/tune-nic.sh -i INTERFACE --undo
#
# -i, --interface     the interface for V2V frames
# -q, --queues        receive queues [default: as many as there are now]
# -p, --huge-pages    huge pages of 2 MiB that the machine has in all, for table and frames
#                     [default: as they are]
# -n, --dry-run       print what would be changed, and change nothing
#     --undo          put back what was there before the first change
#
# Each change is printed as `what: before -> after`. Settings that the driver does not know or
# refuses are reported and skipped. The values from before are kept in /run/baton/tune-INTERFACE
# until they are restored or the machine restarts.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "scripts/$(basename "${BASH_SOURCE[0]}")"; }

wrong() {
    printf 'error: %s; --help lists the options\n' "$*" >&2
    exit 2
}

# A whole number within bounds, as the option's value.
whole() {
    [[ "$2" =~ ^[0-9]{1,6}$ ]] && ((10#$2 >= $3 && 10#$2 <= $4)) || wrong "$1 takes a whole number from $3 to $4, not '$2'"
}

interface="" queues="" huge_pages="" dry=0 undo=0
while (($#)); do
    case "$1" in
        -i | --interface | -q | --queues | -p | --huge-pages)
            (($# >= 2)) || wrong "$1 needs a value"
            case "$1" in
                -i | --interface) interface="$2" ;;
                -q | --queues) whole "$1" "$2" 1 64 && queues="$2" ;;
                *) whole "$1" "$2" 0 999999 && huge_pages="$2" ;;
            esac
            shift 2
            ;;
        -n | --dry-run) dry=1 && shift ;;
        --undo) undo=1 && shift ;;
        -h | --help) usage && exit 0 ;;
        *) wrong "there is no option '$1'" ;;
    esac
done
[[ -n "$interface" ]] || wrong "-i names the interface"
[[ "$interface" =~ ^[^/[:space:]]{1,15}$ && -d "/sys/class/net/$interface" ]] || wrong "there is no interface '$interface'"
((undo)) && [[ -n "$queues$huge_pages" ]] && wrong "--undo goes with -i and -n alone"
((dry)) || need_root "this script, which sets up an interface,"
command -v ethtool >/dev/null || die "ethtool is missing: apt-get install ethtool"

folder="${RUNTIME_DIRECTORY:-/run/baton}"
readonly kept="$folder/tune-$interface" net="/sys/class/net/$interface"

# Saves a setting before it is changed for the first time: its kind, its name, its value.
keep() {
    ((dry)) && return
    mkdir -p "$folder"
    grep -qsF "$1 $2 " "$kept" || printf '%s %s %s\n' "$1" "$2" "$3" >>"$kept"
}

# Writes a file of the kernel, if it has another content.
write() {
    local path="$1" to="$2" from
    [[ -e "$path" ]] || { say "$path: this kernel has none" && return; }
    from="$(<"$path")"
    [[ "$from" == "$to" ]] && return
    keep file "$path" "$from"
    printf '%s: %s -> %s\n' "$path" "$from" "$to"
    ((dry)) && return
    { echo "$to" >"$path"; } 2>/dev/null || say "$path: refused"
}

# The value of a line such as `RX:  512` below a headline, as ethtool prints it.
told() { { ethtool "$1" "$interface" 2>/dev/null || true; } | sed -n "/$2/,\$p" | sed -n "s/^$3:[[:space:]]*//p" | head -n 1 || true; }

# Sets one parameter by ethtool: its listing's option and headline, the line's name, the setting's
# option and name, the value.
set_by_ethtool() {
    local show="$1" headline="$2" line="$3" option="$4" name="$5" to="$6" from
    from="$(told "$show" "$headline" "$line")"
    if [[ -z "$from" || "$from" == n/a ]]; then
        say "ethtool $option $name: the driver has none"
        return
    fi
    from="${from%% *}"
    [[ "$from" == "$to" ]] && return
    keep ethtool "$option/$name" "$from"
    printf 'ethtool %s %s: %s -> %s\n' "$option" "$name" "$from" "$to"
    ((dry)) && return
    ethtool "$option" "$interface" "$name" "$to" >/dev/null 2>&1 || say "ethtool $option $name: refused"
}

# CPUs for the queues: those of the interface's node, one thread of each core, CPU 0 last.
serving_cpus() {
    local node cpu number last=()
    node="$(cat "$net/device/numa_node" 2>/dev/null || echo -1)"
    for cpu in $(printf '%s\n' /sys/devices/system/cpu/cpu[0-9]* | sort -V); do
        number="${cpu##*cpu}"
        [[ "$(cat "$cpu/online" 2>/dev/null || echo 1)" == 1 ]] || continue
        ((node < 0)) || [[ -e "$cpu/node$node" ]] || continue
        [[ "$(sed 's/[,-].*//' "$cpu/topology/thread_siblings_list" 2>/dev/null || echo "$number")" == "$number" ]] || continue
        if ((number == 0)); then last=(0); else echo "$number"; fi
    done
    printf '%s\n' "${last[@]}"
}

# Puts each of the interface's interrupts on a CPU of its own, as far as there are enough.
spread_interrupts() {
    local irq cpus=() n=0
    [[ -d "$net/device/msi_irqs" ]] || { say "interrupts: $interface has none" && return; }
    mapfile -t cpus < <(serving_cpus)
    while read -r irq; do
        write "/proc/irq/$irq/smp_affinity_list" "${cpus[n++ % ${#cpus[@]}]}"
    done < <(find "$net/device/msi_irqs" -mindepth 1 -printf '%f\n' | sort -n)
}

put_back() {
    local lines kind name value
    [[ -f "$kept" ]] || die "nothing is known of $interface before it was tuned ($kept is not there)"
    mapfile -t lines < <(tac "$kept")
    for line in "${lines[@]}"; do
        read -r kind name value <<<"$line"
        case "$kind" in
            file)
                printf '%s: %s -> %s\n' "$name" "$(<"$name")" "$value"
                ((dry)) || { echo "$value" >"$name"; } 2>/dev/null || say "$name: refused"
                ;;
            ethtool)
                printf 'ethtool %s: -> %s\n' "${name/\// }" "$value"
                ((dry)) || ethtool "${name%%/*}" "$interface" "${name#*/}" "$value" >/dev/null 2>&1 || say "${name/\// }: refused"
                ;;
            *) die "$kept is not this script's: '$line'" ;;
        esac
    done
    ((dry)) || rm "$kept"
}

if ((undo)); then
    put_back
    exit 0
fi

now='Current hardware settings'
if [[ -n "$queues" ]]; then
    if [[ -n "$(told -l "$now" Combined)" && "$(told -l "$now" Combined)" != @(0|n/a) ]]; then
        set_by_ethtool -l "$now" Combined -L combined "$queues"
    else
        set_by_ethtool -l "$now" RX -L rx "$queues"
        set_by_ethtool -l "$now" TX -L tx "$queues"
    fi
fi
set_by_ethtool -g "$now" RX -G rx 4096
set_by_ethtool -g "$now" TX -G tx 2048
set_by_ethtool -c Coalesce 'Adaptive RX' -C adaptive-rx off
set_by_ethtool -c Coalesce rx-usecs -C rx-usecs 8
# If the interface strips an 802.1Q tag, neither steering nor a worker sees it.
set_by_ethtool -k Features rx-vlan-offload -K rxvlan off
# It also drops frames of VLANs that it does not know.
set_by_ethtool -k Features rx-vlan-filter -K rx-vlan-filter off
# A worker that polls busily runs the driver itself, for as long as it comes back within the
# timeout.
write "$net/napi_defer_hard_irqs" 2
write "$net/gro_flush_timeout" 200000
spread_interrupts
[[ -z "$huge_pages" ]] || write /proc/sys/vm/nr_hugepages "$huge_pages"
