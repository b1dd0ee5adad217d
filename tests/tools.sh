# Sourced by the scripts here: installs what they need and the machine lacks. Needs cargo and, as root or with sudo, apt-get.
need() { # command, Debian package
    command -v "$1" >/dev/null && return
    local as=""
    [ "$(id -u)" = 0 ] || as=sudo
    $as apt-get update -q && $as apt-get install -qy "$2"
}
need cc build-essential
need python3 python3
need curl curl
rustup component list 2>/dev/null | grep -q 'rustfmt.*(installed)' || rustup component add rustfmt || true
rustup component list 2>/dev/null | grep -q 'clippy.*(installed)' || rustup component add clippy || true
