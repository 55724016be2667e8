"""
LXC's and systemd-nspawn's containers that are there already, in cgroups of any name.

Most are found by their paths (scan.py). In the others (``lxc.cgroup.dir.container``, a
service that runs systemd-nspawn) they are found by who keeps them: the parent of their
first process. Looked at are only the processes that bear a keeper's name and are root's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ctrwatch.core.cgroup import identify
from ctrwatch.core.lxc import lxc_call
from ctrwatch.core.nspawn import nspawn_call
from ctrwatch.model import CgroupKey, ContainerId, Identity, Runtime
from ctrwatch.sensor.host import Host

__all__ = ("Machine", "machines")

_COMMS: Final = ("lxc-start", "lxc-execute", "systemd-nspawn")
_CMDLINE_BYTES: Final = 256 << 10
_CHILD: Final = re.compile(r"/(?:init\.scope|init)\Z")  # where a system's first process goes


class Machine(NamedTuple):
    identity: Identity
    paths: list[tuple[CgroupKey, str]]
    init_pid: int


def machines(host: Host) -> Iterator[Machine]:
    """Those whose keepers are root's."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if Path(f"/proc/{name}/comm").read_text("utf-8", "replace").strip() in _COMMS:
                yield from _of(host, int(name))
        except OSError:
            continue  # gone meanwhile


def _of(host: Host, pid: int) -> Iterator[Machine]:
    kept = _kept(pid)
    first = next((child for child in _children(pid) if _apart(child, pid)), None)
    if kept is None or first is None:
        return
    runtime, name = kept
    around = dict(_cgroups(pid))
    # Where the keeper is, too, is not the container's own: systemd-nspawn leaves the
    # hierarchies of cgroup v1 alone.
    paths = [
        (CgroupKey(number, inode), path)
        for number, path in _cgroups(first)
        if path not in ("/", around.get(number))
        and (inode := _inode(host, number, path)) is not None
    ]
    if paths:
        path = min(paths)[1]
        container_id = ContainerId(name or path.removesuffix("/payload").rpartition("/")[2])
        outside = identify(path)
        outer = (*outside.outer, outside.container_id) if outside else ()
        identity = Identity(container_id, runtime, is_root=True, outer=outer)
        yield Machine(identity, sorted(paths), first)


def _kept(pid: int) -> tuple[Runtime, str] | None:
    status = Path(f"/proc/{pid}/status").read_bytes()
    if re.search(rb"^Uid:\t0\t", status, re.MULTILINE) is None:
        return None  # another's memory may hang
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        words = file.read(_CMDLINE_BYTES).split(b"\0")[:-1]
    argv = tuple(map(os.fsdecode, words))
    if (lxc := lxc_call(argv)) is not None:
        return Runtime.LXC, lxc.name
    if (nspawn := nspawn_call(argv)) is not None:
        return Runtime.NSPAWN, nspawn.name
    return None


def _children(pid: int) -> list[int]:
    """Of its main thread, which is the one that forks (CONFIG_PROC_CHILDREN, since Linux 4.2)."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _apart(child: int, parent: int) -> bool:
    mounts = (os.stat(f"/proc/{pid}/ns/mnt").st_ino for pid in (child, parent))
    return next(mounts) != next(mounts)


def _cgroups(pid: int) -> list[tuple[int, str]]:
    text = Path(f"/proc/{pid}/cgroup").read_text("utf-8", "surrogateescape")
    lines = (line.split(":", 2) for line in text.split("\n") if line)
    return [(int(number), _CHILD.sub("", path)) for number, _, path in lines]


def _inode(host: Host, number: int, path: str) -> int | None:
    directory = host.directory(CgroupKey(number, 0), path)
    try:
        return os.stat(directory).st_ino if directory else None
    except OSError:
        return None
