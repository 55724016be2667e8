"""
Raw events, concisely: a kernel that numbers directories, and runtimes that use it.

The streams have the shape of real ones (`ctr run` on a hybrid host, kernel 6.18, runc
1.1): the cpuset directory first, its first task 9 ms later, the other hierarchies
within half a millisecond each, the unified one last; 20 ms later the first instruction.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from ctrwatch.model import CgroupKey, Kind, RawEvent, Task

CID = "0a1b2c3d4e5f6789" * 4
OTHER = "f" * 64
HYBRID = (3, 1, 2, 4, 5, 6, 7, 8, 9, 0)  # in the order in which runc 1.1 makes them
V2 = (0,)
MS = 1_000_000


def runc(
    container_id: str,
    *,
    pid: int = 7199,
    ppid: int = 7188,
    bundle: str = "",
    program: str = "runc",
    command: str = "create",
) -> Task:
    """An OCI runtime that makes *container_id*, as a shim calls it."""
    bundle = bundle or f"/run/containerd/io.containerd.runtime.v2.task/demo/{container_id}"
    words = (
        *(program, "--root", "/run/containerd/runc/demo", command, "--bundle", bundle),
        *("--pid-file", f"{bundle}/init.pid", container_id),
    )
    return Task(pid=pid, ppid=ppid, tid=pid, comm=program, argv=words, mnt_ns=4026531841)


def child(parent: Task, *, pid: int = 0) -> Task:
    """A process that *parent* started: after a runtime's, the container's first."""
    number = pid or parent.pid + 8
    return Task(pid=number, ppid=parent.pid, tid=number, comm=parent.comm, mnt_ns=parent.mnt_ns)


SYSTEMD = Task(pid=1, ppid=0, tid=1, comm="systemd", argv=("/sbin/init",), mnt_ns=4026531841)
SOMEBODY = Task(pid=4242, ppid=1, tid=4242, comm="bash", argv=("bash",), mnt_ns=4026531841)


class Kernel:
    """Makes and removes directories, each with an id of its own, and says so."""

    def __init__(self) -> None:
        self.boot_ns = 1_000_000_000_000
        self.lost = 0
        self._ids = itertools.count(1001)
        self.directories: dict[tuple[int, str], int] = {}

    def after(self, ms: float) -> None:
        self.boot_ns += int(ms * MS)

    def key(self, path: str, hierarchy: int = 0) -> CgroupKey:
        return CgroupKey(hierarchy, self.directories[hierarchy, path])

    def mkdir(self, path: str, task: Task, hierarchy: int = 0) -> RawEvent:
        self.directories[hierarchy, path] = next(self._ids)
        return self._event(Kind.MKDIR, path, path, task, hierarchy)

    def attach(self, path: str, task: Task, hierarchy: int = 0) -> RawEvent:
        return self._event(Kind.ATTACH, path, path, task, hierarchy)

    def exec(
        self, path: str, task: Task, program: str = "/bin/true", hierarchy: int = 0
    ) -> RawEvent:
        return self._event(Kind.EXEC, path, program, task, hierarchy)

    def init(self, path: str, task: Task, hierarchy: int = 0) -> RawEvent:
        return self._event(Kind.INIT, path, "", task, hierarchy)

    def rmdir(self, path: str, task: Task = SOMEBODY, hierarchy: int = 0) -> RawEvent:
        event = self._event(Kind.RMDIR, path, path, task, hierarchy)
        del self.directories[hierarchy, path]
        return event

    def _event(self, kind: Kind, path: str, said: str, task: Task, hierarchy: int) -> RawEvent:
        self.boot_ns += 1000
        parent = path.rpartition("/")[0]
        return RawEvent(
            kind=kind,
            boot_ns=self.boot_ns,
            cgroup=self.key(path, hierarchy),
            parent_id=self.directories.get((hierarchy, parent), 1),
            level=path.count("/"),
            path=said,
            path_cut=False,
            task=task,
            lost=self.lost,
        )

    # --- what a runtime makes of it -----------------------------------------------------

    def birth(
        self, path: str, maker: Task, hierarchies: Sequence[int] = HYBRID
    ) -> Iterator[RawEvent]:
        """A container's directories, with the parents that are not there yet, and its first task."""
        parents = [path[:at] for at in range(1, len(path)) if path[at] == "/"]
        for number, hierarchy in enumerate(hierarchies):
            for parent in parents:
                if (hierarchy, parent) not in self.directories:
                    yield self.mkdir(parent, maker, hierarchy)
            yield self.mkdir(path, maker, hierarchy)
            self.after(9 if number == 0 else 0.1)
            yield self.attach(path, child(maker), hierarchy)

    def start(self, path: str, maker: Task, hierarchies: Sequence[int] = HYBRID) -> RawEvent:
        self.after(20)
        first = child(maker, pid=maker.pid + 10)
        return self.exec(path, first, hierarchy=0 if 0 in hierarchies else hierarchies[0])

    def end(self, path: str, hierarchies: Sequence[int] = HYBRID) -> Iterator[RawEvent]:
        for hierarchy in reversed(hierarchies):
            yield self.rmdir(path, hierarchy=hierarchy)

    def life(
        self, path: str, maker: Task, hierarchies: Sequence[int] = HYBRID
    ) -> Iterator[RawEvent]:
        yield from self.birth(path, maker, hierarchies)
        yield self.start(path, maker, hierarchies)
        self.after(5)
        yield from self.end(path, hierarchies)
