"""
What the processes say that made a container, and which of its own is the first.

The sensor has the creator's command line from the kernel, taken at the mkdir; other
processes' are read (processes.py), in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from ctrwatch.core.cmdline import (
    OciCall,
    conmon_call,
    is_container_id,
    is_stage,
    oci_call,
    shim_call,
)
from ctrwatch.evidence.files import Readers, Tree, Unreadable, read
from ctrwatch.evidence.processes import Processes
from ctrwatch.model import Answer, CgroupKey, Facts, Found, Leads, NotFound, Subject, Task

__all__ = ("Creator", "Init")

_PROCS_BYTES: Final = 1 << 20  # a hundred thousand processes

_CHILDREN: Final = ("container", "init", "init.scope")  # crun's, docker-in-docker's, systemd's


class _Maker(NamedTuple):
    """A process that executes an OCI runtime, and what its command line says."""

    pid: int
    ppid: int
    call: OciCall


class Creator:
    """
    The source "creator": the OCI runtime's command line, and its parent's.

    With the cgroupfs driver the OCI runtime made the cgroup itself; with the systemd
    driver it is the parent of the first task that entered. A process's words count if it
    is root's, or the container's own user's: another's says what it likes.
    """

    name = "creator"

    def __init__(self, readers: Readers, proc: str) -> None:
        """*proc*: where the host's proc file system is mounted."""
        self._readers = readers
        self._proc = proc
        self._processes = Processes(proc)

    async def ask(self, subject: Subject) -> Answer:
        maker = subject.creator or subject.init
        place = Tree(f"{self._proc}/{maker.pid if maker else 0}", subject.uid)
        return await self._readers.call(lambda: self._answer(subject), place.lane)

    async def caller(self, task: Task, uid: int) -> Task | None:
        """The parent of a *task* with its command line; None: it has ended, or is a stranger's."""
        place = Tree(f"{self._proc}/{task.ppid}", uid)
        return await self._readers.call(lambda: self._task(task.ppid, uid), place.lane)

    async def close(self) -> None:
        self._readers.close()

    def _task(self, pid: int, uid: int) -> Task | None:
        argv, mnt_ns = self._argv(pid, uid), self._processes.mount_namespace(pid)
        if not argv or not mnt_ns:
            return None
        return Task(pid=pid, ppid=self._processes.parent(pid), argv=argv, mnt_ns=mnt_ns)

    def _answer(self, subject: Subject) -> Answer:
        maker = self._maker(subject)
        if maker is None:
            leads = self._of_monitor(subject)
            return Found(Facts(leads=leads)) if leads else NotFound()
        root = self._root(maker, subject.creator)
        containerd, namespace = "", ""
        if (shim := shim_call(self._argv(maker.ppid, subject.uid))) is not None:
            namespace = shim.namespace
            containerd = f"{root}{shim.address}" if shim.address and root is not None else ""
        return Found(
            Facts(
                leads=Leads(
                    oci_runtime=maker.call.oci_runtime,
                    bundle=self._bundle(maker) if root is not None else "",
                    root=root or "",
                    containerd=containerd,
                    namespace=namespace,
                )
            )
        )

    def _maker(self, subject: Subject) -> _Maker | None:
        creator, init = subject.creator, subject.init
        if creator is not None:
            call = oci_call(creator.argv, cut=creator.argv_cut)
            if call is None or (creator.argv_cut and not call.bundle):
                call = oci_call(self._argv(creator.pid, subject.uid)) or call
            if call is not None:
                return _Maker(creator.pid, creator.ppid, call)
        if init is not None and init.ppid > 1:
            call = oci_call(self._argv(init.ppid, subject.uid))
            if call is not None:
                return _Maker(init.ppid, self._processes.parent(init.ppid), call)
        return None

    def _bundle(self, maker: _Maker) -> str:
        """The bundle's directory as the OCI runtime has it."""
        bundle = maker.call.bundle
        if bundle.startswith("/"):
            return bundle
        directory = self._processes.cwd(maker.pid)
        return os.path.normpath(f"{directory}/{bundle}") if directory else ""

    def _root(self, maker: _Maker, creator: Task | None) -> str | None:
        """
        Where an OCI runtime's paths begin; "" is here, None can't be reached any more.

        One in another mount namespace (rootless Podman, Docker in Docker, a snap) is
        followed through its own root, or its parent's, which lives longer.
        """
        theirs = self._processes.mount_namespace(maker.pid)
        if creator is not None and creator.pid == maker.pid and creator.mnt_ns:
            theirs = creator.mnt_ns
        if theirs in {0, self._processes.our_mount_namespace}:
            return ""
        if theirs == self._processes.hosts_mount_namespace:
            return f"{self._proc}/1/root"
        for pid in (maker.ppid, maker.pid):
            if self._processes.mount_namespace(pid) == theirs:
                return f"{self._proc}/{pid}/root"
        return None

    def _of_monitor(self, subject: Subject) -> Leads | None:
        """Of a container that was there before us: its first process's parent watches it."""
        first = subject.facts.init_pid or (subject.init.pid if subject.init else 0)
        if not first or not is_container_id(subject.container_id):
            return None
        monitor = self._processes.parent(first)
        argv, root = self._argv(monitor, subject.uid), self._processes.root(monitor)
        if (conmon := conmon_call(argv)) is not None:
            if conmon.container_id != subject.container_id:
                return None
            return Leads(
                oci_runtime=os.path.basename(conmon.oci_runtime),
                bundle=conmon.bundle,
                root=root,
            )
        if (shim := shim_call(argv)) is None:
            return None
        # A pod's containers have the sandbox's shim, and bundles beside the sandbox's.
        tasks = os.path.dirname(shim.bundle or self._processes.cwd(monitor))
        return Leads(
            bundle=f"{tasks}/{subject.container_id}" if tasks.startswith("/") else "",
            root=root,
            containerd=f"{root}{shim.address}" if shim.address else "",
            namespace=shim.namespace,
        )

    def _argv(self, pid: int, uid: int) -> tuple[str, ...]:
        """Of a process that is root's or the user's with that *uid*."""
        counts = pid > 0 and self._processes.uid(pid) in {0, uid}
        return self._processes.argv(pid) if counts else ()


class Init:
    """
    The source "init": the container's first process, as the host counts.

    It is pid 1 of a pid namespace of its own. Where the container has the host's or a
    pod's pid namespace, it is the oldest process in a mount namespace that is not ours;
    while it is being born, only if its spec says so: the OCI runtime is in there too.
    """

    name = "init"

    def __init__(self, proc: str, cgroup_dir: Callable[[CgroupKey, str], str | None]) -> None:
        """*cgroup_dir*: the directory of a cgroup, None if its hierarchy is not mounted."""
        self._processes = Processes(proc)
        self._cgroup_dir = cgroup_dir

    async def ask(self, subject: Subject) -> Answer:
        # These files are the kernel's own and wait for nothing: no thread is needed.
        directory = self._cgroup_dir(subject.cgroup, subject.cgroup_path)
        if directory is None:
            return NotFound()
        pids = list(self._members(directory))
        security = subject.facts.security
        pid = self._first_of_namespace(pids)
        if pid is None and (subject.creator is None or (security and security.host_pid)):
            pid = self._oldest(pids)
        return NotFound() if pid is None else Found(Facts(init_pid=pid))

    async def close(self) -> None:
        """Holds nothing open."""

    def _first_of_namespace(self, pids: Sequence[int]) -> int | None:
        own_depth = len(self._processes.pids("self"))
        numbers = ((self._processes.pids(pid), pid) for pid in pids)
        first = [(len(n), pid) for n, pid in numbers if len(n) > own_depth and n[-1] == 1]
        return min(first)[1] if first else None

    def _oldest(self, pids: Sequence[int]) -> int | None:
        here = self._processes.no_containers
        inside = [
            (self._processes.started(pid), pid)
            for pid in pids
            if self._processes.mount_namespace(pid) not in here
            and not is_stage(self._processes.comm(pid))
        ]
        return min(inside)[1] if inside else None

    def _members(self, directory: str) -> Iterator[int]:
        for place in (directory, *(f"{directory}/{child}" for child in _CHILDREN)):
            try:
                raw = read(f"{place}/cgroup.procs", _PROCS_BYTES)
            except Unreadable:
                continue
            yield from (int(line) for line in raw.split() if line.isdigit() and line != b"0")
