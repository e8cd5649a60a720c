# Functions that the scripts share; sourced, never run. Each script has set -euo pipefail before it
# sources this.

# A script that is asked what it does says what its first lines say, and does nothing.
case "${1:-}" in
    -h | --help)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[-1]}"
        exit 0
        ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Messages go to stderr, results to stdout. Colour only on a terminal.
if [[ -t 2 && -z "${NO_COLOR:-}" ]]; then
    bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'
else
    bold='' red='' plain=''
fi

say() { printf '%s==>%s %s\n' "$bold" "$plain" "$*" >&2; }

die() {
    printf '%serror:%s %s\n' "$red" "$plain" "$*" >&2
    exit 1
}

# Network namespaces, veth pairs, XDP programs and locked memory need root.
need_root() {
    [[ $EUID -eq 0 ]] || die "$1 makes network namespaces and loads XDP programs, which needs root: run it with sudo -E"
}
