#!/usr/bin/env bash
# Installs the software with which benches/peers compares Baton, or with `dataplane` that of
# benches/dataplane, as far as it is missing; prints what it does.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Debian's package, and what it is for.
packages=(
    "redis-server            a table in memory, with a file to come back from"
    "kamailio                a SIP server whose dialog module comes back from a database"
    "kamailio-sqlite-modules that database"
)

if [[ "${1:-}" == dataplane ]]; then
    packages=(
        "dpdk-dev              testpmd"
        "librte-net-af-xdp23   its AF_XDP driver"
        "librte-mempool-ring23 its memory"
        "m4                    libxdp, which xsk-rs builds"
    )
fi

command -v dpkg-query >/dev/null || die "no dpkg-query here: install redis-server, and kamailio with db_sqlite, by hand"
missing=()
for line in "${packages[@]}"; do
    read -r package why <<<"$line"
    if [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)" != installed ]]; then
        say "$package is missing: $why"
        missing+=("$package")
    fi
done
((${#missing[@]})) || exit 0
[[ $EUID -eq 0 ]] || die "installing needs root: sudo scripts/setup-peers.sh"

# Debian starts a server when it installs one. The bench starts its own, in folders of its own, and
# no other one shall run.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
fi

say "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
install=(apt-get install --yes --no-install-recommends -q "${missing[@]}")
# The package list is updated only if the installation fails with the present one.
"${install[@]}" >&2 || { apt-get update -q >&2 && "${install[@]}" >&2; }
