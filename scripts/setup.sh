#!/usr/bin/env bash
# Installs what Baton's build and tests need, as far as it is missing; prints what it does.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Debian's package, and what it is for.
packages=(
    "clang         compiles bpf/ for the kernel"
    "libbpf-dev    the headers that bpf/ includes"
    "libclang-dev  reads bpf/abi.h for the Rust side (bindgen)"
    "libelf-dev    libbpf reads object files with it"
    "zlib1g-dev    libelf's compressed sections"
    "gcc           links, and compiles libbpf"
    "libc6-dev     the C library's headers"
    "linux-libc-dev the kernel's headers"
    "make          builds libbpf"
    "pkg-config    finds libelf and zlib"
    "iproute2      ip: namespaces and veth pairs of tests and demo"
    "tshark        tests Wireshark's dissector, scripts/wireshark"
    "ethtool       scripts/tune-nic.sh sets interfaces up with it"
    "python3-venv  PyPI's readers of histogram logs and metrics, which tests use"
    "python3-dev   compiles a part of it"
)

missing=()
for line in "${packages[@]}"; do
    read -r package why <<<"$line"
    if ! command -v dpkg-query >/dev/null; then
        missing+=("$package")
    elif [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" != installed ]]; then
        say "$package is missing: $why"
        missing+=("$package")
    fi
done

if ((${#missing[@]})); then
    if ! command -v apt-get >/dev/null; then
        say "no apt-get here, so nothing can be looked up or installed; by Debian's names, what is needed is:"
        say "  ${missing[*]}"
        # Packages with other names may provide the tools: the build reports what it does not find.
        for tool in clang gcc make pkg-config ip; do
            command -v "$tool" >/dev/null || die "$tool is not here: install it and run this again"
        done
    elif [[ $EUID -ne 0 ]]; then
        die "installing needs root: sudo apt-get install --no-install-recommends ${missing[*]}"
    else
        say "installing ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        install=(apt-get install --yes --no-install-recommends -q "${missing[@]}")
        # The package list is updated only if the installation fails with the present one.
        "${install[@]}" >&2 || { apt-get update -q >&2 && "${install[@]}" >&2; }
    fi
fi

needed="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
command -v cargo >/dev/null || die "cargo is not here: install Rust $needed or newer from https://rustup.rs"
found="$(cargo --version | cut -d ' ' -f 2)"
oldest="$(printf '%s\n%s\n' "$needed" "$found" | sort -V | head -n 1)"
[[ "$oldest" == "$needed" ]] || die "Rust $found is too old, $needed is needed: rustup update stable"
for component in fmt clippy; do
    cargo "$component" --version >/dev/null 2>&1 || die "cargo $component is not here: rustup component add rustfmt clippy"
done

# Tools with which tests compare Baton; they are not installed. The build works without them.
tools="${CARGO_TARGET_DIR:-target}/tools"
if [[ ! -x "$tools/python/bin/python" ]] || ! "$tools/python/bin/python" -c 'import hdrh, prometheus_client' 2>/dev/null; then
    say "fetching PyPI's hdrhistogram and prometheus-client into $tools/python"
    python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install --quiet --disable-pip-version-check 'hdrhistogram==0.10.*' 'prometheus-client<1' >&2
fi
if [[ ! -x "$tools/promtool" ]]; then
    say "fetching promtool, of Debian's prometheus, into $tools"
    unpacked="$(mktemp -d)"
    trap 'rm -r "$unpacked"' EXIT
    # apt downloads as a separate user, which needs access to the folder.
    chmod 755 "$unpacked"
    (cd "$unpacked" && { apt-get -o APT::Sandbox::User=root download -q prometheus || { apt-get update -q && apt-get -o APT::Sandbox::User=root download -q prometheus; }; }) >&2
    dpkg -x "$unpacked"/prometheus_*.deb "$unpacked/files"
    mkdir -p "$tools"
    cp "$unpacked/files/usr/bin/promtool" "$tools/promtool"
fi
