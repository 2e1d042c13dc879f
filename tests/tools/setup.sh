#!/bin/sh
# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# setup.sh venv: the Python tools, into .cache/venv, if they are not there or not the pinned ones.
# setup.sh oldest: that, and what unit tests need on Python 3.9, into .cache/venv-oldest.
# setup.sh fuzz: that, and the coverage-guided fuzzer, into .cache/venv-fuzz.
# setup.sh all:  the Python tools, and the Debian packages which the disposable hosts need.
# Installs only what is missing. Two may run at once: the second one waits.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
cache=$root/.cache
venv=$cache/venv
pins=$root/requirements/dev.txt

mkdir -p "$cache/locks"
if [ -z "${SETUP_LOCKED-}" ]; then
    # -o: a daemon that an installed package starts must not inherit, and so hold, the lock.
    SETUP_LOCKED=1 exec flock -o "$cache/locks/setup" "$0" "$@"
fi

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "setup: not root, and there is no sudo to run: $*" >&2
        return 1
    fi
}

is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_missing() {
    missing=
    for package in "$@"; do
        is_installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "setup: this is not Debian or Ubuntu; install what their packages$missing hold and call make again" >&2
        return 1
    fi
    echo "setup: installing$missing"
    as_root apt-get update -q >/dev/null
    # shellcheck disable=SC2086  # one word a package
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 $missing >/dev/null
    case $missing in
        *openssh-server*)
            # Only its program is wanted: this machine did not ask for a login service.
            if [ -d /run/systemd/system ]; then
                as_root systemctl disable --quiet --now ssh.service ssh.socket || true
            fi
            ;;
    esac
}

# Prints "3.11 /path/of/the/real/interpreter" for each Python 3, those found first on PATH first.
# pyenv's shims cannot be used by ansible-test (they exit 127 for a version that is not selected), what they point to can.
interpreters() {
    (
        IFS=:
        for folder in $PATH; do
            ls -d "$folder"/python3.[0-9] "$folder"/python3.[0-9][0-9] 2>/dev/null || true
        done
        ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3.[0-9]* 2>/dev/null || true
    ) | grep -v "^$cache/" | grep 'python3\.[0-9]*$' | while read -r python; do
        "$python" -c 'import sys
if sys.prefix == sys.base_prefix: print("%d.%d %s" % (sys.version_info[0], sys.version_info[1], sys.executable))' \
            2>/dev/null </dev/null || true
    done
}

link_interpreters() {
    mkdir -p "$cache/pythons"
    interpreters | while read -r version python; do
        [ -x "$cache/pythons/python$version" ] || ln -sfn "$python" "$cache/pythons/python$version"
    done
}

# The newest Python that ansible-core 2.21 is tested with here, else the one for 2.19.
choose_python() {
    for version in 3.13 3.12 3.14 3.11; do
        python=$cache/pythons/python$version
        if [ -x "$python" ] && "$python" -c 'import ensurepip, ssl, venv' 2>/dev/null; then
            readlink "$python"
            return
        fi
    done
}

# is_built FOLDER PINS: whether the virtual environment is there, and is that of the pins.
is_built() {
    [ "$(cat "$1/ready" 2>/dev/null)" = "$(sha256sum <"$2")" ] && "$1/bin/python" -c '' 2>/dev/null
}

# build PYTHON FOLDER PINS [OPTION OF PIP...]
build() {
    python=$1 folder=$2 wanted=$3
    shift 3
    # The pip that comes with Python 3.9 leaves a copy of its certificates in the folder for temporary files.
    leavings=$(mktemp -d "$folder.XXXXXX")
    TMPDIR=$leavings "$python" -m venv --clear "$folder"
    rm -rf "$leavings"
    "$folder/bin/pip" install -qq --disable-pip-version-check "$@" --requirement "$wanted"
    sha256sum <"$wanted" >"$folder/ready"
}

setup_venv() {
    if is_built "$venv" "$pins"; then
        return
    fi
    install_missing ca-certificates git
    link_interpreters
    chosen=$(choose_python)
    if [ -z "$chosen" ]; then
        install_missing python3 python3-venv
        link_interpreters
        chosen=$(choose_python)
    fi
    if [ -z "$chosen" ]; then
        echo "setup: needs Python 3.11 or newer with its venv module; found only: $(interpreters | cut -d' ' -f1 | sort -uV | tr '\n' ' ')" >&2
        return 1
    fi
    echo "setup: building .cache/venv with $chosen"
    build "$chosen" "$venv" "$pins"
}

setup_oldest() {
    is_built "$cache/venv-oldest" "$root/requirements/oldest.txt" ||
        build "$(readlink "$cache/pythons/python3.9")" "$cache/venv-oldest" "$root/requirements/oldest.txt"
}

# The fuzzer comes as a binary, so each wheel has its digest in the pins.
setup_fuzz() {
    is_built "$cache/venv-fuzz" "$root/requirements/fuzz.txt" ||
        build "$(choose_python)" "$cache/venv-fuzz" "$root/requirements/fuzz.txt" --require-hashes --only-binary :all:
}

# Ansible finds a collection only below a folder ansible_collections/NAMESPACE/NAME.
link_collection() {
    mkdir -p "$cache/collections/ansible_collections/metalfleet"
    ln -sfn ../../../.. "$cache/collections/ansible_collections/metalfleet/gpustack"
}

setup_venv
link_collection
case ${1-venv} in
    venv) ;;
    oldest) setup_oldest ;;
    fuzz) setup_fuzz ;;
    all)
        link_interpreters
        install_missing gcc iproute2 libc6-dev mmdebstrap openssh-client openssh-server openssl shellcheck strace
        ;;
    *)
        echo "usage: setup.sh venv|oldest|fuzz|all" >&2
        exit 2
        ;;
esac
