"""
What the processes say that made a container, and which of its own is the first.

The sensor has the creator's command line from the kernel, taken at the mkdir; of other
processes `/proc/<pid>/cmdline` is read, in a thread: the kernel waits in there for
pages of the process's own memory, which may be a file on a file system that hangs.
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
from ctrwatch.model import Answer, CgroupKey, Facts, Found, Leads, NotFound, Subject, Task

__all__ = ("Creator", "Init")

_CMDLINE_BYTES: Final = 256 << 10  # conmon's has 3 KB; ARG_MAX would be 2 MB
_STAT_BYTES: Final = 4 << 10
_STATUS_BYTES: Final = 64 << 10  # many supplementary groups
_PROCS_BYTES: Final = 1 << 20  # a hundred thousand processes

_PPID, _STARTTIME = 1, 19  # in what `_stat_fields` returns
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
        argv, mnt_ns = self._argv(pid, uid), self._namespace(pid)
        if not argv or not mnt_ns:
            return None
        return Task(pid=pid, ppid=self._parent(pid), argv=argv, mnt_ns=mnt_ns)

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
                return _Maker(init.ppid, self._parent(init.ppid), call)
        return None

    def _bundle(self, maker: _Maker) -> str:
        """The bundle's directory as the OCI runtime has it."""
        bundle = maker.call.bundle
        if bundle.startswith("/"):
            return bundle
        directory = self._link(maker.pid, "cwd")
        return os.path.normpath(f"{directory}/{bundle}") if directory.startswith("/") else ""

    def _root(self, maker: _Maker, creator: Task | None) -> str | None:
        """
        Where an OCI runtime's paths begin; "" is here, None can't be reached any more.

        One in another mount namespace (rootless Podman, Docker in Docker, a snap) is
        followed through its own root, or its parent's, which lives longer.
        """
        theirs = self._namespace(maker.pid)
        if creator is not None and creator.pid == maker.pid and creator.mnt_ns:
            theirs = creator.mnt_ns
        if not theirs or theirs == self._namespace("self"):
            return ""
        for pid in (maker.ppid, maker.pid):
            if self._namespace(pid) == theirs:
                return f"{self._proc}/{pid}/root"
        return None

    def _root_of(self, monitor: int) -> str:
        theirs = self._namespace(monitor)
        ours = self._namespace("self")
        return f"{self._proc}/{monitor}/root" if theirs not in {0, ours} else ""

    def _of_monitor(self, subject: Subject) -> Leads | None:
        """Of a container that was there before us: its first process's parent watches it."""
        first = subject.facts.init_pid or (subject.init.pid if subject.init else 0)
        if not first or not is_container_id(subject.container_id):
            return None
        monitor = self._parent(first)
        argv = self._argv(monitor, subject.uid)
        if (conmon := conmon_call(argv)) is not None:
            if conmon.container_id != subject.container_id:
                return None
            return Leads(
                oci_runtime=os.path.basename(conmon.oci_runtime),
                bundle=conmon.bundle,
                root=self._root_of(monitor),
            )
        if (shim := shim_call(argv)) is None:
            return None
        # A pod's containers have the sandbox's shim, and bundles beside the sandbox's.
        tasks = os.path.dirname(shim.bundle or self._link(monitor, "cwd"))
        root = self._root_of(monitor)
        return Leads(
            bundle=f"{tasks}/{subject.container_id}" if tasks.startswith("/") else "",
            root=root,
            containerd=f"{root}{shim.address}" if shim.address else "",
            namespace=shim.namespace,
        )

    def _argv(self, pid: int, uid: int) -> tuple[str, ...]:
        """Of a process that is root's or the user's with that *uid*."""
        if pid <= 0 or _owner(self._proc, pid) not in {0, uid}:
            return ()
        try:
            raw = read(f"{self._proc}/{pid}/cmdline", _CMDLINE_BYTES)
        except Unreadable:  # it has ended, or its command line is absurd
            return ()
        return tuple(os.fsdecode(word) for word in raw.split(b"\0")[:-1])

    def _parent(self, pid: int) -> int:
        return _number(_stat_fields(self._proc, pid), _PPID)

    def _link(self, pid: int, name: str) -> str:
        try:
            return os.readlink(f"{self._proc}/{pid}/{name}")
        except OSError:
            return ""

    def _namespace(self, pid: int | str) -> int:
        return _namespace(self._proc, pid)


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
        self._proc = proc
        self._cgroup_dir = cgroup_dir

    async def ask(self, subject: Subject) -> Answer:
        # These files are the kernel's own and wait for nothing: no thread is needed.
        directory = self._cgroup_dir(subject.cgroup, subject.cgroup_path)
        if directory is None:
            return NotFound()
        pids = list(self._processes(directory))
        security = subject.facts.security
        pid = self._first_of_namespace(pids)
        if pid is None and (subject.creator is None or (security and security.host_pid)):
            pid = self._oldest(pids)
        return NotFound() if pid is None else Found(Facts(init_pid=pid))

    async def close(self) -> None:
        """Holds nothing open."""

    def _first_of_namespace(self, pids: Sequence[int]) -> int | None:
        own_depth = len(self._pids_of("self"))
        numbers = ((self._pids_of(pid), pid) for pid in pids)
        first = [(len(n), pid) for n, pid in numbers if len(n) > own_depth and n[-1] == 1]
        return min(first)[1] if first else None

    def _oldest(self, pids: Sequence[int]) -> int | None:
        ours = _namespace(self._proc, "self")
        inside = [
            (_number(_stat_fields(self._proc, pid), _STARTTIME), pid)
            for pid in pids
            if _namespace(self._proc, pid) not in {0, ours} and not is_stage(_comm(self._proc, pid))
        ]
        return min(inside)[1] if inside else None

    def _processes(self, directory: str) -> Iterator[int]:
        for place in (directory, *(f"{directory}/{child}" for child in _CHILDREN)):
            try:
                raw = read(f"{place}/cgroup.procs", _PROCS_BYTES)
            except Unreadable:
                continue
            yield from (int(line) for line in raw.split() if line.isdigit() and line != b"0")

    def _pids_of(self, pid: int | str) -> list[int]:
        """The process's pid in each pid namespace, ours first (NSpid, since Linux 4.1)."""
        return _status(self._proc, pid, b"NSpid")


def _owner(proc: str, pid: int) -> int | None:
    """The real uid of a process; None: it has ended."""
    return next(iter(_status(proc, pid, b"Uid")), None)


def _status(proc: str, pid: int | str, field: bytes) -> list[int]:
    """The numbers in a line of /proc/<pid>/status; none: it has ended."""
    try:
        status = read(f"{proc}/{pid}/status", _STATUS_BYTES)
    except Unreadable:
        return []
    _, _, rest = status.partition(b"\n" + field + b":")
    return [int(word) for word in rest.partition(b"\n")[0].split() if word.isdigit()]


def _stat_fields(proc: str, pid: int) -> list[bytes]:
    """The fields of /proc/<pid>/stat from the third on: state, ppid, …"""
    try:
        raw = read(f"{proc}/{pid}/stat", _STAT_BYTES)
    except Unreadable:
        return []
    return raw.rpartition(b")")[2].split()  # the name before may hold anything


def _namespace(proc: str, pid: int | str) -> int:
    """The mount namespace's number; 0: the process has ended."""
    try:
        return os.stat(f"{proc}/{pid}/ns/mnt").st_ino
    except OSError:
        return 0


def _number(fields: list[bytes], at: int) -> int:
    return int(fields[at]) if at < len(fields) and fields[at].isdigit() else 0


def _comm(proc: str, pid: int) -> str:
    try:
        return os.fsdecode(read(f"{proc}/{pid}/comm", _STAT_BYTES)).rstrip("\n")
    except Unreadable:
        return ""
