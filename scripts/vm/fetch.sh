#!/usr/bin/env bash
# Fetches from Debian's packages what scripts/vm/run.sh needs and this machine lacks: QEMU with an
# emulated igb (10 or newer), busybox-static, and a kernel new enough to give its igb and virtio-net
# zero copy (7.3), which is unpacked below target/vm and never installed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

cache=target/vm
how="needed are qemu-system-x86_64 10 or newer (its igb), a static busybox, and a kernel 7.3 or newer with its modules in $cache/kernel, as
Debian's linux-binary-* and linux-modules-* unpack to"
command -v apt-get >/dev/null && command -v dpkg >/dev/null || die "no apt-get here: $how"

# The archive of this machine's own Debian, with suites that it may not list. The machine's
# configuration is not changed.
site() {
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1
}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
listed="$cache/apt/listed"
apt=(-o "Dir::Etc::sourcelist=$PWD/$cache/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$PWD/$cache/apt/lists"
    -o "Dir::Cache=$PWD/$cache/apt" -o APT::Sandbox::User=root)
list() {
    local from suite
    [[ ! -e "$listed" ]] || return 0
    mkdir -p "$cache"/apt/{lists,archives}/partial
    from="$(site)"
    if [[ -z "$from" ]]; then
        apt-get update -q >&2
        from="$(site)"
    fi
    [[ -n "$from" && -e $keyring ]] || die "apt knows of no Debian: $how"
    for suite in "$@"; do printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$from" "$suite"; done >"$cache/apt/sources.list"
    apt-get "${apt[@]}" update -q >&2
    touch "$listed"
}

own="$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)"
suites=("$own" "$own-backports")
# The newest kernels are built for the newest release.
[[ "$own" == trixie ]] || suites+=(trixie-backports)

missing=()
qemu-system-x86_64 -device help 2>/dev/null | grep -q '"igb"' || missing+=(qemu-system-x86)
[[ -e /bin/busybox && ! "$(ldd /bin/busybox 2>&1)" =~ "=>" ]] || missing+=(busybox-static)
for pair in tc:iproute2 xz:xz-utils; do
    command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
done
if ((${#missing[@]})); then
    [[ $EUID -eq 0 ]] || die "installing needs root: sudo scripts/vm/fetch.sh; $how"
    list "${suites[@]}"
    say "installing ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get "${apt[@]}" install --yes --no-install-recommends -q -t "$own-backports" "${missing[@]}" >&2
fi

if [[ -z "$(find "$cache/kernel" -name vmlinuz 2>/dev/null)" ]]; then
    list "${suites[@]}"
    # The highest version, without the flavours for clouds and real time.
    newest="$(apt-cache "${apt[@]}" search --names-only '^linux-binary-[0-9].*-amd64$' | cut -d ' ' -f 1 |
        grep -Ev -- '-(cloud|rt)-amd64$' | sed 's/^linux-binary-//' | sort -V | tail -n 1)"
    [[ -n "$newest" ]] || die "apt knows of no linux-binary-*-amd64: $how"
    say "fetching Linux $newest"
    rm -rf "$cache/kernel.new"
    mkdir -p "$cache/kernel.new"
    (cd "$cache/kernel.new" && apt-get "${apt[@]}" download -q "linux-binary-$newest" "linux-modules-$newest" >&2)
    for package in "$cache"/kernel.new/*.deb; do
        dpkg -x "$package" "$cache/kernel.new"
        rm "$package"
    done
    rm -rf "$cache/kernel"
    mv "$cache/kernel.new" "$cache/kernel"
fi
