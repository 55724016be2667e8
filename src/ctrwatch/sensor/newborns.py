"""
Cgroups made while we run: who enters them first, and what is executed in them first.

What the BPF program does in the kernel (sensor/bpf/birth.bpf.c), done from outside with
what fanotify and the process events connector say:

* somebody wrote to a `cgroup.procs`, or the kernel to a `cgroup.events`: then the cgroup's
  processes are looked at, and the first is the one that entered;
* its family is followed by the kernel's word of forks; the first of them that executes a
  program in a mount namespace of its own runs the container's first instruction.

A process that has ended before it was looked at says nothing of its mount namespace. If it
was pid 1 of a pid namespace of its own, its exec is the container's: OCI runtimes execute
themselves before they make one. Of any other nothing is told.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from ctrwatch.core.notices import ProcessEvent
from ctrwatch.model import CgroupKey, Kind, RawEvent, Task
from ctrwatch.sensor import proc

__all__ = ("Newborns",)

_NEWBORNS: Final = 16_384  # as many as the BPF program's map holds
_PROCESSES: Final = 4096  # followed: a birth has a dozen
# A container starts within seconds. Who makes its cgroup and starts it later than this
# (`runc create`, `runc start` by hand) has no container_start.
_FOLLOWED_NS: Final = 60_000_000_000
_PROCS_BYTES: Final = 64 << 10  # the first of them is wanted: a newborn has a handful


class _Newborn:
    def __init__(self, made: RawEvent, directory: str) -> None:
        self.made, self.directory = made, directory
        self.outside = made.task.mnt_ns  # mount namespace of those who make the container
        self.entered = False
        self.waiting = True  # for its first instruction


class Newborns:
    def __init__(self) -> None:
        self._newborns: OrderedDict[CgroupKey, _Newborn] = OrderedDict()
        # Those who make a container and those in it, with the cgroups that it consists of: a
        # dozen on v1. A child shares its parent's list.
        self._families: OrderedDict[int, list[_Newborn]] = OrderedDict()
        # Of those, pid 1 of a pid namespace of their own, with their cgroups' paths.
        self._first: dict[int, dict[int, str]] = {}

    def __bool__(self) -> bool:
        """Whether there is one that has not started."""
        return bool(self._newborns)

    def made(self, event: RawEvent, directory: str) -> Iterator[RawEvent]:
        """A cgroup was made. Somebody may be in it already: clone3 can put a child there."""
        newborn = self._newborns[event.cgroup] = _Newborn(event, directory)
        if len(self._newborns) > _NEWBORNS:
            self._newborns.popitem(last=False)[1].waiting = False
        # Only of a cgroup.events that somebody has looked at does the kernel say that it
        # changes (kernfs_notify): v2's, which v1 doesn't have and doesn't need.
        if event.cgroup.hierarchy_id == 0 and b"populated 1" in _read(f"{directory}/cgroup.events"):
            yield from self._entered(newborn, event.boot_ns, event.lost)

    def removed(self, cgroup: CgroupKey) -> None:
        if (newborn := self._newborns.pop(cgroup, None)) is not None:
            newborn.waiting = False

    def written(self, cgroup: CgroupKey, boot_ns: int, lost: int) -> Iterator[RawEvent]:
        """Somebody wrote to its `cgroup.procs`, or the kernel to its `cgroup.events`."""
        newborn = self._newborns.get(cgroup)
        if newborn is not None and not newborn.entered:
            yield from self._entered(newborn, boot_ns, lost)

    def happened(self, event: ProcessEvent, boot_ns: int, lost: int) -> Iterator[RawEvent]:
        """A process of the host was forked, or executed a program."""
        if event.parent:
            family = self._families.get(event.parent)
            if family is not None:
                self._follow(event.pid, family)
        elif (family := self._families.get(event.pid)) is not None:
            yield from self._executed(event.pid, family, boot_ns, lost)

    def forget(self, boot_ns: int) -> None:
        """Those who have not started for long, and the processes of those who have."""
        while self._newborns:
            oldest = next(iter(self._newborns.values()))
            if boot_ns - oldest.made.boot_ns < _FOLLOWED_NS:
                break
            self.removed(oldest.made.cgroup)
        if not self._newborns:
            self._families.clear()
            self._first.clear()

    def _entered(self, newborn: _Newborn, boot_ns: int, lost: int) -> Iterator[RawEvent]:
        words = _read(f"{newborn.directory}/cgroup.procs").split()
        pids = [int(word) for word in words if word.isdigit() and word != b"0"]
        tasks = [task for pid in pids if (task := proc.task(pid)) is not None]
        inside = {task.pid for task in tasks}
        first = next((task for task in tasks if task.ppid not in inside), None)
        if first is None:
            return  # it has gone again
        newborn.entered = True
        # With the systemd driver systemd made the cgroup; the task's parent is the OCI runtime.
        newborn.outside = proc.mount_namespace(first.ppid) or newborn.outside
        for pid in filter(None, (first.ppid, *sorted(inside))):
            family = self._families.get(pid)
            if family is None:
                self._follow(pid, [newborn])
            elif newborn not in family:
                family[:] = [*(other for other in family if other.waiting), newborn]
        yield msgspec.structs.replace(
            newborn.made, kind=Kind.ATTACH, boot_ns=boot_ns, task=first, lost=lost
        )

    def _follow(self, pid: int, family: list[_Newborn]) -> None:
        self._first.pop(pid, None)  # of a process before it, of the same number
        self._families[pid] = family
        self._families.move_to_end(pid)
        if len(self._families) > _PROCESSES:
            self._first.pop(self._families.popitem(last=False)[0], None)
        if proc.is_first(pid):
            self._first[pid] = proc.cgroups(pid)

    def _executed(
        self, pid: int, family: list[_Newborn], boot_ns: int, lost: int
    ) -> Iterator[RawEvent]:
        namespace = proc.mount_namespace(pid)
        places = proc.cgroups(pid) if namespace else self._first.get(pid, {})
        waiting = [
            newborn
            for newborn in family
            if newborn.waiting
            and newborn.outside != namespace
            and places.get(newborn.made.cgroup.hierarchy_id) == newborn.made.path
        ]
        if not waiting:
            return
        program = proc.executed_inside(pid) if namespace else ""
        if namespace and not program and proc.mount_namespace(pid):
            return  # it is alive, and runs what it has brought along
        task = proc.task(pid) or Task(pid=pid, ppid=0, only_pid=True)
        for newborn in waiting:
            self.removed(newborn.made.cgroup)
        shown = min((each.made for each in waiting), key=lambda made: made.cgroup.hierarchy_id)
        # The exec's time is the kernel's, the mkdir's is that of its being read, which is later.
        boot_ns = max(boot_ns, shown.boot_ns)
        yield msgspec.structs.replace(
            shown, kind=Kind.EXEC, boot_ns=boot_ns, path=program, task=task, lost=lost
        )


def _read(path: str) -> bytes:
    """A cgroup's file; empty when the cgroup has gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, _PROCS_BYTES)
    except OSError:  # ENODEV: it went meanwhile; EOPNOTSUPP: a threaded cgroup
        return b""
    finally:
        os.close(fd)
