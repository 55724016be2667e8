"""
LXC's and systemd-nspawn's containers that are there already, in cgroups of any name.

Most are found by their paths (scan.py). In the others (``lxc.cgroup.dir.container``, a
service that runs systemd-nspawn) they are found by who keeps them: the parent of their
first process. Looked at are only the processes that bear a keeper's name and are root's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ctrwatch.core.cgroup import identify
from ctrwatch.core.keepers import kept, named_by
from ctrwatch.model import CgroupKey, Identity, Runtime
from ctrwatch.sensor import proc
from ctrwatch.sensor.host import Host

__all__ = ("Machine", "machines")

_COMMS: Final = ("lxc-start", "lxc-execute", "systemd-nspawn")
_CMDLINE_BYTES: Final = 256 << 10
_CHILD: Final = re.compile(r"/(?:init\.scope|init)\Z")  # where a system's first process goes


class Machine(NamedTuple):
    identity: Identity
    paths: list[tuple[CgroupKey, str]]
    init_pid: int


def machines(host: Host, processes: Iterable[tuple[int, str]]) -> Iterator[Machine]:
    """Those whose keepers are root's, among the *processes*: pid, and what it is called."""
    for pid, comm in processes:
        if comm in _COMMS and proc.uid(pid) == 0:  # another's memory may hang
            its = kept(proc.argv(pid, _CMDLINE_BYTES)[0])
            if its is not None:
                yield from _of(host, pid, *its)


def _of(host: Host, keeper: int, runtime: Runtime, name: str) -> Iterator[Machine]:
    outside = proc.mount_namespace(keeper)
    first = next((each for each in _children(keeper) if proc.mount_namespace(each) != outside), 0)
    # Where the keeper is, too, is not the container's own: systemd-nspawn leaves the
    # hierarchies of cgroup v1 alone.
    around = _cgroups(keeper)
    paths = [
        (CgroupKey(number, status.st_ino), path)
        for number, path in _cgroups(first).items()
        if path not in ("/", around.get(number))
        and (status := host.status(CgroupKey(number, 0), path)) is not None
    ]
    if paths:
        path = min(paths)[1]
        enclosing = identify(path)
        outer = (*enclosing.outer, enclosing.container_id) if enclosing else ()
        identity = Identity(named_by(name, path), runtime, is_root=True, outer=outer)
        yield Machine(identity, sorted(paths), first)


def _children(pid: int) -> list[int]:
    """Of its main thread, which is the one that forks (CONFIG_PROC_CHILDREN, since Linux 4.2)."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    except OSError:
        return []  # gone meanwhile
    return [int(word) for word in words]


def _cgroups(pid: int) -> dict[int, str]:
    return {number: _CHILD.sub("", path) for number, path in proc.cgroups(pid).items()}
