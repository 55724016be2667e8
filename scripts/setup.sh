#!/usr/bin/env bash
# Installs what ctrwatch needs from the system, and uv, into .build/uv. Run it by `make setup`.
#   scripts/setup.sh          Python, clang, libbpf
#   scripts/setup.sh --demo   also busybox, and runc where there is no container runtime at all
#   scripts/setup.sh --vm     also what makes and boots the machine of tests/vm
#   scripts/setup.sh --test   also that, and the container runtimes that tests/live starts
# It looks for the things, not for the packages, and installs (Debian, Ubuntu) only what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin

UV_VERSION=0.13.9

has()         { command -v "$1" >/dev/null; }
has_library() { has ldconfig && ldconfig -p | grep -q "$1"; }

# The system's Python comes first: it is there for every user, root too.
python() {
    local candidate
    for candidate in /usr/bin/python3 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}
has_venv()    { local p; p=$(python) && "$p" -c 'import ensurepip, venv' 2>/dev/null; }

# The package "busybox" puts another one there, which needs libraries that a container has not.
has_busybox() { [[ -x /bin/busybox ]] && ! ldd /bin/busybox >/dev/null 2>&1; }
has_runtime() { has docker || has ctr || has podman || has crun || has runc; }

missing=()
need() { # need PACKAGE CHECK...: the package is missing when the check fails
    "${@:2}" || missing+=("$1")
}

need ca-certificates  test -e /etc/ssl/certs/ca-certificates.crt
need python3          python >/dev/null
need python3-venv     has_venv
need make             has make
need clang            has clang
need linux-libc-dev   test -e /usr/include/linux/bpf.h
need libbpf-dev       test -e /usr/include/bpf/bpf_helpers.h
need libbpf1          has_library libbpf.so.1
if [[ ${1-} == --test ]]; then
    need containerd     has containerd
    need docker.io      has dockerd
    need podman         has podman
    need buildah        has buildah
    need conmon         has conmon
    need uidmap         has newuidmap
    need runc           has runc
    need crun           has crun
    need lxc            has lxc-start
    need systemd-container has systemd-nspawn
    need docker-registry has docker-registry
    need strace         has strace
    need tmux           has tmux
fi
if [[ ${1-} == --vm || ${1-} == --test ]]; then
    need qemu-system-x86         has qemu-system-x86_64
    need mmdebstrap              has mmdebstrap
    need debian-archive-keyring  test -e /usr/share/keyrings/debian-archive-keyring.gpg
    need e2fsprogs               has mkfs.ext4
fi
if [[ ${1-} == --demo ]]; then
    need runc           has_runtime
fi
if [[ ${1-} == --demo || ${1-} == --test ]]; then
    need busybox-static has_busybox
fi

if ((${#missing[@]})); then
    if ! has apt-get; then
        echo "error: missing on this machine: ${missing[*]} (Debian's names)." \
             "Install them with your package manager, then try again." >&2
        exit 1
    fi
    as_root=()
    if ((EUID != 0)); then
        if ! has sudo; then
            echo "error: missing: ${missing[*]}. As root: apt-get install ${missing[*]}" >&2
            exit 1
        fi
        echo "sudo is asked for one thing: to install these packages with apt-get: ${missing[*]}"
        as_root=(sudo)
    fi
    apt() {
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@"
    }
    echo "installing ${missing[*]}"
    apt update
    apt install --yes --no-install-recommends "${missing[@]}" >/dev/null
fi

python=$(python) || {
    echo "error: ctrwatch needs Python 3.11 or newer; this system's is $(/usr/bin/python3 --version)." >&2
    exit 1
}
if [[ $(.build/uv/bin/uv --version 2>/dev/null) != "uv $UV_VERSION"* ]]; then
    "$python" -m venv --clear .build/uv
    .build/uv/bin/pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
fi
