#!/bin/bash
# Installs what the lab and the tests need: Debian packages (only those missing), .venv with the
# locked requirements, the project itself (editable), and a kubectl where the PATH has none.
# Does nothing, quickly, where all of that is in place.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PACKAGES=(
    containerd runc busybox-static containernetworking-plugins iproute2 iptables python3-venv
)
PYTHON=${PYTHON:-python3}
STAMP=.venv/.setup-stamp
UNFINISHED=.venv/.setup-unfinished

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

install_packages() {
    command -v dpkg-query > /dev/null || {
        say "no dpkg here: make sure that these are installed: ${PACKAGES[*]}"
        return 0
    }
    local package missing=()
    for package in "${PACKAGES[@]}"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null) == installed ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    ((EUID == 0)) || fail "these packages are missing, and only root can install them: ${missing[*]}"
    say "apt-get install ${missing[*]}"
    local log
    log=$(mktemp)
    if ! apt_get install "${missing[@]}" &> "$log"; then  # perhaps for want of a fresh list
        { apt_get update && apt_get install "${missing[@]}"; } &> "$log" || {
            tail -n 20 "$log" >&2
            rm -f "$log"
            fail "apt-get could not install ${missing[*]}"
        }
    fi
    rm -f "$log"
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends \
        -o DPkg::Lock::Timeout=120 "$@" < /dev/null
}

# What .venv was made from: any change of it makes the next setup install again.
fingerprint() {
    { pwd; "$PYTHON" --version; cat requirements.lock pyproject.toml lab/setup.sh; } | sha256sum
}

install_python() {
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$PYTHON is older than Python 3.11; name another one with PYTHON=..."
    # What an interrupted pip leaves behind, the next one can't read.
    [[ ! -e $UNFINISHED ]] || rm -rf .venv
    mkdir -p .venv
    touch "$UNFINISHED"
    [[ -x .venv/bin/python ]] || { say "making .venv"; "$PYTHON" -m venv .venv; }
    say "installing the locked requirements"
    local pip=(.venv/bin/python -m pip --disable-pip-version-check install --quiet)
    "${pip[@]}" --no-compile --require-hashes -r requirements.lock
    # All cores at once, unlike pip; a file that is meant for another Python is no fault.
    .venv/bin/python -m compileall -q -j 0 .venv/lib > /dev/null || true
    "${pip[@]}" --no-deps --no-build-isolation --editable .
    fingerprint > "$STAMP"
    rm "$UNFINISHED"
}

install_packages
[[ ! -e $UNFINISHED && -f $STAMP && $(< "$STAMP") == "$(fingerprint)" ]] || install_python
KUBECTL=$(.venv/bin/python -m lab.kubectl) || fail "no kubectl on the PATH, and none could be brought"
say "ready (kubectl is $KUBECTL)"
