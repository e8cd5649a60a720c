#!/usr/bin/env bash
# Runs Baton under pktgen in a QEMU guest, under software emulation: native copy mode and zero copy,
# on igb and on virtio-net. The guest is scripts/vm/init. Prints the guest's output, keeps it in
# target/vm/guest.log, and fails if a step did.
#
#   scripts/vm/run.sh [--only WORD]    WORD: igb or virtio, copy, zero or busy, or net (a VLAN, a
#                                      bond); may be repeated
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# The guest's time limit in seconds: a run takes a fraction of it.
limit=300
cache=target/vm
only=''
while (($#)); do
    case "$1" in
        --only)
            (($# >= 2)) || { printf 'error: --only takes a word\n' >&2 && exit 2; }
            only+="${only:+,}$2"
            shift 2
            ;;
        -h | --help)
            sed -n '2,/^[^#]/s/^# \{0,1\}//p' "scripts/vm/run.sh"
            exit 0
            ;;
        *)
            printf 'error: %s is not understood\n' "$1" >&2
            exit 2
            ;;
    esac
done

command -v qemu-system-x86_64 >/dev/null || die "QEMU is not here: scripts/vm/fetch.sh installs it (Debian's qemu-system-x86, 10 or newer)"
kernel="$(find "$cache/kernel" -name vmlinuz 2>/dev/null | head -n 1)"
[[ -n "$kernel" ]] || die "the guest's kernel is not here: scripts/vm/fetch.sh fetches it"
modules="$(dirname "$kernel")"
baton="${CARGO_TARGET_DIR:-target}/debug/baton"
[[ -x "$baton" ]] || die "$baton is not here: cargo build"

root="$cache/root"
rm -rf "$root"
mkdir -p "$root"/{bin,etc,proc,sys,dev,tmp,run,modules,pktgen,var/lib/baton} "$root/lib/x86_64-linux-gnu"

# Adds a program and its libraries.
add() {
    local library
    cp -L "$(command -v "$1")" "$root/bin/${1##*/}"
    while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done < <(ldd "$(command -v "$1")" | grep -Eo '/[^ ]+')
}
cp -L "$(command -v busybox)" "$root/bin/busybox"
for program in bash ip tc ss ethtool "$PWD/$baton"; do
    if [[ "$program" == ethtool ]] && ! command -v ethtool >/dev/null; then continue; fi
    add "$program"
done
printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"

# In the order of loading: each after those that it needs.
order=(dca i2c-core i2c-algo-bit ptp pps_core igb failover net_failover virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_net
    pktgen sch_ingress cls_bpf xsk_diag tls bonding llc stp mrp garp 8021q)
for module in "${order[@]}"; do
    file="$(find "$modules/kernel" \( -name "$module.ko.xz" -o -name "${module//_/-}.ko.xz" \) | head -n 1)"
    # A driver that is built into the kernel is not a module.
    [[ -n "$file" ]] || continue
    xz -dc "$file" >"$root/modules/$module.ko"
    printf '%s\n' "$module" >>"$root/modules/order"
done

cp scripts/pktgen/*.sh "$root/pktgen/"
clang -target bpf -mcpu=v3 -O2 -g -Ibpf -idirafter /usr/include -idirafter "/usr/include/$(uname -m)-linux-gnu" \
    -c bpf/reports.bpf.c -o "$root/pktgen/reports.bpf.o" || die "clang refuses bpf/reports.bpf.c"
cp scripts/vm/init "$root/init"
chmod +x "$root/init"
(cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$cache/initramfs.gz"

log="$cache/guest.log"
qemu=''
end() { [[ -z "$qemu" ]] || kill "$qemu" 2>/dev/null || true; }
trap end EXIT
say "guest: $(basename "$modules"), at most $limit s"
qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -nodefaults -no-reboot -display none -serial "file:$log" \
    -kernel "$kernel" -initrd "$cache/initramfs.gz" -append "console=ttyS0 quiet panic=-1 loglevel=4 only=$only" \
    -netdev hubport,id=left,hubid=1 -netdev hubport,id=right,hubid=1 \
    -device pcie-root-port,id=port1,chassis=1,slot=1 -device igb,netdev=left,bus=port1,mac=02:00:00:00:00:01 \
    -device pcie-root-port,id=port2,chassis=2,slot=2 \
    -device virtio-net-pci,netdev=right,bus=port2,mac=02:00:00:00:00:02,iommu_platform=on,disable-legacy=on,csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,mrg_rxbuf=off &
qemu=$!
began=$SECONDS
while kill -0 "$qemu" 2>/dev/null; do
    if ((SECONDS - began >= limit)); then
        end
        tail -n 30 "$log" >&2
        die "the guest did not end within $limit s: $log"
    fi
    sleep 1
done
wait "$qemu" || true
qemu=''
cat "$log"
grep -q '^verdict: all passed' "$log" || die "a step failed, or the guest did not come to its end: $log"
say "the guest took $((SECONDS - began)) s"
