"""
The fanotify sensor: for hosts where BPF can't run.

One mark for each mounted cgroup hierarchy says who made or removed which directory, and
who wrote to which file. The rest of a raw event is looked up at once: the new directory's
id by its name, the creator in /proc, first tasks and first programs as newborns.py tells.
Two things are therefore weaker than the eBPF sensor's, and docs/limits.md says so: what
has gone before we look is unknown, and the time of a birth is when we read of it.

Linux 6.6 (from where on a cgroup file system has an fsid: kernfs_get_tree, fs/kernfs/mount.c),
CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH; CAP_NET_ADMIN for the containers' starts.
"""

from __future__ import annotations

import asyncio
import ctypes as c
import errno
import logging
import os
import select
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Final, Self

import msgspec

from ctrwatch.core.notices import NO_PIDFD, Mask, Notice, ProcessEvent, notices
from ctrwatch.errors import HostError, WireError
from ctrwatch.model import CgroupKey, Kind, RawEvent, Task
from ctrwatch.sensor.connector import Connector
from ctrwatch.sensor.host import Host, boot_clock_ns
from ctrwatch.sensor.makers import Makers
from ctrwatch.sensor.newborns import Newborns

__all__ = ("FanotifySensor",)

log = logging.getLogger(__name__)

# fanotify_init(2). The queue is unlimited: a burst of 1,000 births on a hybrid host is 30,000
# notices of 200 bytes, the limit would be 16,384, and of what is beyond it there is no count.
_CLOEXEC, _NONBLOCK, _UNLIMITED_QUEUE = 0x1, 0x2, 0x10
_REPORT_PIDFD, _REPORT_FID, _REPORT_DIR_FID = 0x80, 0x200, 0x400
_REPORT_NAME, _REPORT_TARGET_FID = 0x800, 0x1000
_INIT: Final = (
    _CLOEXEC | _NONBLOCK | _UNLIMITED_QUEUE | _REPORT_PIDFD
    | _REPORT_FID | _REPORT_DIR_FID | _REPORT_NAME | _REPORT_TARGET_FID
)  # fmt: skip
_MARK_ADD, _MARK_FILESYSTEM, _AT_FDCWD = 0x1, 0x100, -100  # fanotify_mark(2)
_MASK: Final = Mask.CREATE | Mask.DELETE | Mask.MOVED_FROM | Mask.MODIFY | Mask.ONDIR

# One turn of the event loop: some 70 notices, of which a mkdir takes 50 µs to look up. Each
# brings a pidfd, and 1,024 open files are a common limit.
_READ_BYTES: Final = 8 << 10
_NOTICE_BYTES: Final = 400  # the longest: two handles, a name of 255 bytes, a pidfd
# Waking up costs more than reading. The first things are read at once: LXC needs 2 ms from its
# mkdir to the container's first instruction. When they go on coming, they are let gather.
_HURRY: Final = 8
_GATHER_S: Final = 0.001
_PATHS: Final = 16_384  # of directories that may get children, 200 bytes each
_UNSEEN: Final = 4096  # directories that were gone before we looked
_ENTRIES: Final = frozenset({"cgroup.procs", "tasks", "cgroup.events"})


class FanotifySensor:
    """Marked from its making until `close`. One reader at a time."""

    name = "fanotify"

    def __init__(self, host: Host) -> None:
        self._host = host
        self._lost = 0
        self.unreadable = 0  # they count among the lost
        self._paths: OrderedDict[CgroupKey, str] = OrderedDict()
        self._unseen: OrderedDict[tuple[int, str], RawEvent] = OrderedDict()  # hierarchy, path
        self._drained = True  # the last read left nothing
        self._held: list[ProcessEvent] = []  # until then
        self._newborns = Newborns()
        self._makers = Makers()
        self._hierarchies: dict[int, int] = {}  # by fsid
        self._fd = _watched(host)
        for hierarchy_id, hierarchy in host.hierarchies.items():
            self._hierarchies[os.statvfs(hierarchy.mount).f_fsid] = hierarchy_id
        self._connector: Connector | None = None
        self.without, self.tells_init = "", False
        self.capabilities: frozenset[str] = frozenset()
        try:
            self._connector = Connector()
            self.capabilities |= {"CAP_NET_ADMIN"}  # for each time that it is to listen
        except HostError as error:
            self.without = str(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lost(self) -> int:
        """
        How often something was lost, not how much: fanotify and netlink do not count.

        Without memory for a notice the kernel says that there is an overflow, once.
        """
        return self._lost + (self._connector.overruns if self._connector else 0)

    def idle(self) -> bool:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        return self._drained and not poller.poll(0)

    async def batches(self) -> AsyncIterator[Sequence[RawEvent]]:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        fds = [self._fd, *([self._connector.fd] if self._connector else [])]
        soon, again_s = 0, 0.0  # turns on each other's heels, and until when the next is one
        try:
            while True:
                for fd in fds:
                    loop.add_reader(fd, ready.set)
                await ready.wait()
                ready.clear()
                for fd in fds:  # what is not read yet would call again and again meanwhile
                    loop.remove_reader(fd)
                soon = soon + 1 if loop.time() < again_s else 0
                if self._drained and soon > _HURRY:
                    await asyncio.sleep(_GATHER_S)
                batch = await self.read()
                again_s = loop.time() + _GATHER_S
                if batch:
                    yield batch
        finally:
            for fd in fds:
                loop.remove_reader(fd)

    async def read(self) -> list[RawEvent]:
        """What has happened: at most a batch, empty when there is nothing."""
        # In this order: of what a process did after it had entered a cgroup, the entering is
        # in the queue.
        if self._connector is not None and not self._held:
            self._held = self._connector.read()
        try:
            buffer = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            buffer = b""
        boot_ns = boot_clock_ns()
        self._drained = len(buffer) <= _READ_BYTES - _NOTICE_BYTES
        heard = list(self._decoded(buffer))
        if self._connector is not None and any(notice.mask & Mask.CREATE for notice in heard):
            self._connector.listen(wanted=True)  # before what takes time
        try:
            made = (notice for notice in heard if notice.mask & Mask.CREATE)
            tasks = await self._makers.look({notice.pid: notice.pidfd for notice in made})
        finally:
            for notice in heard:
                if notice.pidfd >= 0:
                    os.close(notice.pidfd)
        events = [
            event for notice in told_apart(heard) for event in self._events(notice, tasks, boot_ns)
        ]
        if self._connector is not None:
            self._connector.listen(wanted=bool(self._newborns))
            if self._drained:
                events += self._process_events()
        self._newborns.forget(boot_ns)
        return events

    def close(self) -> None:
        os.close(self._fd)
        if self._connector is not None:
            self._connector.close()
        self._makers.close()

    # --- what happened to cgroups -------------------------------------------------------

    def _decoded(self, buffer: bytes) -> Iterator[Notice]:
        try:
            yield from notices(buffer)
        except WireError as error:
            self._lost += 1
            log.warning("a notice of fanotify can't be read: %s", error)

    def _events(
        self, notice: Notice, tasks: Mapping[int, Task], boot_ns: int
    ) -> Iterator[RawEvent]:
        hierarchy_id = self._hierarchies.get(notice.fsid)
        if notice.mask & Mask.OVERFLOW:
            self._lost += 1
        elif hierarchy_id is None:
            return
        elif not notice.mask & Mask.ONDIR:
            if notice.name in _ENTRIES:
                cgroup = CgroupKey(hierarchy_id, notice.parent_id)
                yield from self._newborns.written(cgroup, boot_ns, self.lost())
        elif notice.mask & Mask.MOVED_FROM:  # v1 only; paths below it have changed
            self._paths.clear()
        else:
            path = self._path_below(CgroupKey(hierarchy_id, notice.parent_id), notice.name)
            event = RawEvent(
                kind=Kind.MKDIR if notice.mask & Mask.CREATE else Kind.RMDIR,
                boot_ns=boot_ns,
                cgroup=CgroupKey(hierarchy_id, notice.child_id),
                parent_id=notice.parent_id,
                level=path.count("/"),
                path=path,
                path_cut=False,
                task=tasks.get(notice.pid) or _ended(notice.pid),
                lost=self.lost(),
            )
            yield from self._made(event) if notice.mask & Mask.CREATE else self._removed(event)

    def _made(self, event: RawEvent) -> Iterator[RawEvent]:
        if not event.path:  # its parent had gone before we knew it
            self._lost += 1
            return
        if not event.cgroup.cgroup_id:
            cgroup_id = self._id_of(event)
            if not cgroup_id:  # its removal, which is in the queue, will say it
                self._unseen[event.cgroup.hierarchy_id, event.path] = event
                if len(self._unseen) > _UNSEEN:
                    self._unseen.popitem(last=False)
                    self._lost += 1
                return
            event = _with_id(event, cgroup_id)
        if event.cgroup in self._paths:
            return  # another was of that name, and what we took for that one was this
        self._remember(event.cgroup, event.path)
        if event.task.only_pid:
            task = msgspec.structs.replace(event.task, uid=self._owner_of(event))
            event = msgspec.structs.replace(event, task=task)
        yield event
        directory = self._host.directory(event.cgroup, event.path)
        if directory is not None:
            yield from self._newborns.made(event, directory)

    def _removed(self, event: RawEvent) -> Iterator[RawEvent]:
        unseen = self._unseen.pop((event.cgroup.hierarchy_id, event.path), None)
        if unseen is not None:
            yield _with_id(unseen, event.cgroup.cgroup_id)
        self._newborns.removed(event.cgroup)
        yield event

    def _id_of(self, event: RawEvent) -> int:
        """The inode number of the cgroup's directory; 0 when it has gone."""
        status = self._host.status(event.cgroup, event.path)
        return status.st_ino if status is not None else 0

    def _owner_of(self, event: RawEvent) -> int:
        """Who made the cgroup, unless it was given away since; -1 when it has gone."""
        status = self._host.status(event.cgroup, event.path)
        return status.st_uid if status is not None else -1

    def _path_below(self, parent: CgroupKey, name: str) -> str:
        """The path of a cgroup; "" where its parent has gone and was not known."""
        above = self._paths.get(parent)
        if above is None:
            above = self._host.resolve(parent)
            if above is None:
                return ""
            self._remember(parent, above)
        self._paths.move_to_end(parent)
        return f"{above.rstrip('/')}/{name}"

    def _remember(self, cgroup: CgroupKey, path: str) -> None:
        # A removed one stays until others push it out: an id is never used twice.
        self._paths[cgroup] = path
        if len(self._paths) > _PATHS:
            self._paths.popitem(last=False)

    # --- what processes did -----------------------------------------------------------------

    def _process_events(self) -> list[RawEvent]:
        offset_ns = boot_clock_ns() - time.monotonic_ns()
        held, self._held = self._held, []
        return [
            event
            for happened in held
            for event in self._newborns.happened(
                happened, happened.monotonic_ns + offset_ns, self.lost()
            )
        ]


def told_apart(heard: Sequence[Notice]) -> list[Notice]:
    """
    Notices with the ids of those directories that are removed again among them.

    A name alone would lead to the directory that bears it now. Where one process makes
    the same name twice, the kernel merges the second mkdir into the first notice: between
    two removals there was one, by a process that is not known (pid 0).
    """
    removed: dict[tuple[int, int, str], Notice] = {}  # later, and not made before yet
    backwards: list[Notice] = []
    for notice in reversed(heard):
        place = notice.fsid, notice.parent_id, notice.name
        if notice.mask & Mask.ONDIR and notice.mask & Mask.DELETE:
            if (later := removed.get(place)) is not None:
                made = later._replace(mask=Mask.CREATE | Mask.ONDIR, pid=0, pidfd=NO_PIDFD)
                backwards.append(made)
            removed[place] = notice
            backwards.append(notice)
        elif notice.mask & Mask.ONDIR and notice.mask & Mask.CREATE and place in removed:
            backwards.append(notice._replace(child_id=removed.pop(place).child_id))
        else:
            backwards.append(notice)
    return backwards[::-1]


def _ended(pid: int) -> Task:
    """Of a process of which nobody can say any more whose it was."""
    return Task(pid=pid, ppid=0, uid=-1, only_pid=True)


def _with_id(event: RawEvent, cgroup_id: int) -> RawEvent:
    cgroup = event.cgroup._replace(cgroup_id=cgroup_id)
    return msgspec.structs.replace(event, cgroup=cgroup)


def _watched(host: Host) -> int:
    """A fanotify group with a mark for each hierarchy. Raises HostError, with the way out."""
    libc = c.CDLL(None, use_errno=True)
    libc.fanotify_mark.argtypes = [c.c_int, c.c_uint, c.c_uint64, c.c_int, c.c_char_p]
    fd: int = libc.fanotify_init(_INIT, os.O_RDONLY)
    if fd < 0:
        raise _explained(c.get_errno())
    for hierarchy in host.hierarchies.values():
        flags, mount = _MARK_ADD | _MARK_FILESYSTEM, os.fsencode(hierarchy.mount)
        if libc.fanotify_mark(fd, flags, _MASK, _AT_FDCWD, mount) < 0:
            number = c.get_errno()
            os.close(fd)
            raise _explained(number)
    return fd


def _explained(number: int) -> HostError:
    """The kernel's refusal as one sentence with the way out."""
    if number in (errno.EPERM, errno.EACCES):
        return HostError(
            "no permission to watch file systems by fanotify: run as root (sudo ctrwatch …),"
            " or with CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_DAC_READ_SEARCH"
        )
    return HostError(
        f"this kernel can't watch cgroups by fanotify: {os.strerror(number)};"
        " it needs Linux 6.6 or later, with CONFIG_FANOTIFY"
    )
