"""
What the processes say that made a container, and which of its own is the first.

The sensor has the creator's command line from the kernel, taken at the mkdir; of other
processes `/proc/<pid>/cmdline` is read, in a thread: the kernel waits in there for
pages of the process's own memory, which may be a file on a file system that hangs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from ctrwatch.core.cmdline import OciCall, conmon_call, is_container_id, oci_call, shim_call
from ctrwatch.evidence.files import Readers, Unreadable, read
from ctrwatch.model import Answer, CgroupKey, Facts, Found, Leads, NotFound, Subject, Task

__all__ = ("Creator", "Init")

_CMDLINE_BYTES: Final = 256 << 10  # conmon's has 3 KB; ARG_MAX would be 2 MB
_STAT_BYTES: Final = 4 << 10
_STATUS_BYTES: Final = 64 << 10  # many supplementary groups
_PROCS_BYTES: Final = 1 << 20  # a hundred thousand processes

# What the OCI runtimes call their own processes: runc:[1:CHILD], exe of /proc/self/exe, 6 of /dev/fd/6.
_STAGE: Final = re.compile(r"runc|crun|exe$|\d+$")
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
    driver it is the parent of the first task that entered.
    """

    name = "creator"

    def __init__(self, readers: Readers, proc: str) -> None:
        """*proc*: where the host's proc file system is mounted."""
        self._readers = readers
        self._proc = proc

    async def ask(self, subject: Subject) -> Answer:
        return await self._readers.call(lambda: self._answer(subject))

    async def close(self) -> None:
        self._readers.close()

    def _answer(self, subject: Subject) -> Answer:
        maker = self._maker(subject)
        if maker is None:
            leads = self._of_monitor(subject)
            return Found(Facts(leads=leads)) if leads else NotFound()
        containerd, namespace = "", ""
        if (shim := shim_call(self._argv(maker.ppid))) is not None:
            containerd, namespace = shim.address, shim.namespace
        return Found(
            Facts(
                leads=Leads(
                    oci_runtime=maker.call.oci_runtime,
                    bundle=self._bundle(maker, subject.creator),
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
                call = oci_call(self._argv(creator.pid)) or call
            if call is not None:
                return _Maker(creator.pid, creator.ppid, call)
        if init is not None and init.ppid > 1:
            call = oci_call(self._argv(init.ppid))
            if call is not None:
                return _Maker(init.ppid, self._parent(init.ppid), call)
        return None

    def _bundle(self, maker: _Maker, creator: Task | None) -> str:
        """
        The bundle's directory, as this process can open it.

        An OCI runtime in another mount namespace (Docker in Docker, a snap) means a path
        of that namespace: it is reached through the root of the process, or of its parent,
        which lives longer.
        """
        bundle = maker.call.bundle
        if not bundle.startswith("/"):
            directory = self._link(maker.pid, "cwd")
            if not directory.startswith("/"):
                return ""
            bundle = os.path.normpath(f"{directory}/{bundle}")
        ours = self._namespace("self")
        theirs = self._namespace(maker.pid)
        if creator is not None and creator.pid == maker.pid and creator.mnt_ns:
            theirs = creator.mnt_ns
        if not theirs or theirs == ours:
            return bundle
        # An absolute link on the way would lead to a path of ours. Nothing is gained by
        # it: whoever can make one there can write the whole bundle.
        for pid in (maker.ppid, maker.pid):
            if self._namespace(pid) == theirs:
                return f"{self._proc}/{pid}/root{os.path.normpath(bundle)}"
        return ""

    def _of_monitor(self, subject: Subject) -> Leads | None:
        """Of a container that was there before us: its first process's parent watches it."""
        first = subject.facts.init_pid or (subject.init.pid if subject.init else 0)
        if not first or not is_container_id(subject.container_id):
            return None
        monitor = self._parent(first)
        argv = self._argv(monitor)
        if (conmon := conmon_call(argv)) is not None:
            if conmon.container_id != subject.container_id:
                return None
            return Leads(oci_runtime=os.path.basename(conmon.oci_runtime), bundle=conmon.bundle)
        if (shim := shim_call(argv)) is None:
            return None
        # A pod's containers have the sandbox's shim, and bundles beside the sandbox's.
        tasks = os.path.dirname(shim.bundle or self._link(monitor, "cwd"))
        return Leads(
            bundle=f"{tasks}/{subject.container_id}" if tasks.startswith("/") else "",
            containerd=shim.address,
            namespace=shim.namespace,
        )

    def _argv(self, pid: int) -> tuple[str, ...]:
        if pid <= 0:
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
            if _namespace(self._proc, pid) not in {0, ours}
            and not _STAGE.match(_comm(self._proc, pid))
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
        try:
            status = read(f"{self._proc}/{pid}/status", _STATUS_BYTES)
        except Unreadable:
            return []
        _, found, rest = status.partition(b"\nNSpid:")
        line = rest.partition(b"\n")[0].split() if found else []
        return [int(number) for number in line if number.isdigit()]


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
