#!/usr/bin/env bash
# Makes the guest's Debian 12: disk.img, vmlinuz and initrd.img in the directory OUT. As root.
#
#   disk.sh OUT SOURCES APT_CONF
#
# The tree is made in memory, in namespaces of its own: whatever ends this, the kernel takes back the
# mounts, the tree and the processes.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
if [[ ${1-} != --in-namespaces ]]; then
    exec unshare --mount --pid --fork --kill-child --mount-proc "${BASH_SOURCE[0]}" --in-namespaces "$@"
fi
out=$2 sources=$3 apt_conf=$4
guest=$(dirname "${BASH_SOURCE[0]}")/guest
packages=$(sed '/^#/d' "$guest/packages" | paste --serial --delimiters=,)
trap 'exit 143' INT TERM  # the first process of a pid namespace has no default action

mount -t tmpfs -o mode=755,size=4g tmpfs /mnt
root=/mnt/root

# mmdebstrap gives its hooks the tree as $1. The host's name servers are nothing to the guest.
# shellcheck disable=SC2016
mmdebstrap --mode=root --variant=minbase --format=directory --aptopt="$apt_conf" \
    --include="$packages" \
    --essential-hook="cp --recursive '$guest/tree/.' \"\$1\"" \
    --customize-hook='mkdir "$1/ctrwatch" "$1/python" "$1/results"' \
    --customize-hook='chroot "$1" useradd --create-home --uid 1000 --shell /bin/bash user' \
    --customize-hook='install -D /dev/null "$1/var/lib/systemd/linger/user"' \
    --customize-hook='chroot "$1" systemctl preset-all --quiet' \
    --customize-hook=': >"$1/etc/resolv.conf"' \
    bookworm "$root" - <"$sources"

cp --dereference "$root/vmlinuz" "$root/initrd.img" "$out/"
# No journal: nobody keeps what a run writes on this disk.
mkfs.ext4 -q -O ^has_journal -d "$root" "$out/disk.img" 8G
chmod 644 "$out"/*
chown --reference="$out" "$out"/*
