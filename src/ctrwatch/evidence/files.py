"""
Files that strangers wrote, read safely, in threads that may hang.

A bundle or a storage can lie where a user writes: a link to a secret, a FIFO that never
ends, a sparse terabyte, a FUSE mount that answers nothing. So a file

* is looked up as the container's creator saw it: links on the way to its directory are
  followed, but stay within the creator's root (openat2, since Linux 5.6); below that
  directory no link is followed;
* counts only if it is a regular file that belongs to whom the container belongs: of an
  unprivileged user's container nothing of root's or of another user's is read. That is
  known before it is opened, so that nothing is waited for or set off by it;
* has a bound, and is read by a thread that the event loop does not wait for at its end.
"""

from __future__ import annotations

import asyncio
import ctypes as c
import errno
import os
import queue
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from typing import Any, Final, Generic, NamedTuple, TypeVar
from weakref import WeakValueDictionary

__all__ = ("Absent", "Foreign", "ParsedFiles", "Readers", "Tree", "Unreadable", "read", "read_fd")

T = TypeVar("T")

# A thread whose read hangs can't be ended; it stays until the file system answers. So
# one user, or one place of root's, may hold `LANE` of them, and all users together none
# of root's. More would not be faster: a read takes 20 µs, and threads that take turns at
# Python's lock cost more than that (1,009 containers: 0.39 s with 2, 0.55 s with 4). A
# thread is made only when all others are busy.
LANE: Final = 2
ROOTS: Final = 16
USERS: Final = 16

_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESRCH})
_ALIKE: Final = 4  # /run/containerd/io.containerd.runtime.v2.task: the first three names of a path

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_ITSELF: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

# linux/openat2.h; the call has this number on every architecture that Python runs on.
_OPENAT2: Final = 437
_NO_MAGICLINKS: Final = 0x02
_NO_SYMLINKS: Final = 0x04
_BENEATH: Final = 0x08
_IN_ROOT: Final = 0x10
_AGAIN: Final = 16  # a path with ".." in it, while somebody renames or mounts


class Unreadable(Exception):  # noqa: N818 - it says what the file is
    """A file that is there but can't be used. Its text is a clause: "PATH: why"."""


class Absent(Unreadable):
    """There is no such file (or no such process)."""


class Foreign(Unreadable):
    """A file that is not the container's user's: whatever it says is not of that container."""


class Tree(NamedTuple):
    """
    A directory in which evidence of a container lies, and whose files in it count.

    *base* is a path as the container's creator has it, *uid* the user to whom the
    container belongs, *root* the creator's root directory.
    """

    base: str
    uid: int
    root: str = "/"

    def path(self, name: str) -> str:
        """How the file is called in messages: as the creator calls it."""
        return f"{self.base}/{name}"

    @property
    def lane(self) -> Hashable:
        """What may hang together: all of a user's; of root's, what begins alike."""
        return self.uid or (self.root, *self.base.split("/")[:_ALIKE])

    def open(self, name: str) -> int:
        """
        A file descriptor of the regular file *name*, a path below `base`.

        Raises `Absent` where there is nothing, `Unreadable` for everything else: a
        link, a FIFO, a device, another user's file, an error of the file system.
        """
        with ExitStack() as held:
            try:
                file, status = self._find(name, held)
                self._judge(name, status)
                return _reopened(file)
            except (OSError, ValueError) as error:  # ValueError: a NUL in the path
                raise _refusal(self.path(name), error) from None

    def read(self, name: str, limit: int) -> bytes:
        """The whole of that file, at most *limit* bytes. Raises like `open`."""
        fd = self.open(name)
        try:
            return read_fd(fd, self.path(name), limit)
        finally:
            os.close(fd)

    def size(self, name: str) -> int | None:
        """Of whatever has that name; None: nothing has. Raises `Unreadable`."""
        with ExitStack() as held:
            try:
                return self._find(name, held)[1].st_size
            except (OSError, ValueError) as error:
                refusal = _refusal(self.path(name), error)
        if isinstance(refusal, Absent):
            return None
        raise refusal

    def _find(self, name: str, held: ExitStack) -> tuple[int, os.stat_result]:
        root = _held(held, os.open(self.root, _DIRECTORY))
        base = _held(held, _openat2(root, self.base, _DIRECTORY, _IN_ROOT | _NO_MAGICLINKS))
        file = _held(held, _openat2(base, name, _ITSELF, _BENEATH | _NO_SYMLINKS))
        return file, os.fstat(file)

    def _judge(self, name: str, status: os.stat_result) -> None:
        if stat.S_ISLNK(status.st_mode):
            raise Unreadable(f"{self.path(name)}: a symbolic link")
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(f"{self.path(name)}: not a regular file")
        if status.st_uid != self.uid:
            raise Foreign(
                f"{self.path(name)}: it belongs to uid {status.st_uid}, the container to {self.uid}"
            )


def read(path: str, limit: int) -> bytes:
    """
    The whole of a file that the kernel writes (/proc, a cgroup), at most *limit* bytes.

    Raises `Absent`, `Unreadable`.
    """
    try:
        fd = os.open(path, _READ | os.O_NOFOLLOW)
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from None
    try:
        return read_fd(fd, path, limit)
    finally:
        os.close(fd)


def read_fd(fd: int, path: str, limit: int) -> bytes:
    """What an open file holds, at most *limit* bytes. *path* is for the message only."""
    if os.fstat(fd).st_size > limit:
        raise Unreadable(f"{path}: larger than {limit} bytes")
    chunks: list[bytes] = []
    left = limit + 1
    try:
        # Files of /proc have no size, and any file can grow while it is read.
        while left and (chunk := os.read(fd, min(left, 1 << 20))):
            chunks.append(chunk)
            left -= len(chunk)
    except OSError as error:
        raise _refusal(path, error) from None
    if not left:
        raise Unreadable(f"{path}: larger than {limit} bytes")
    return b"".join(chunks)


class _OpenHow(c.Structure):
    _fields_ = (("flags", c.c_uint64), ("mode", c.c_uint64), ("resolve", c.c_uint64))


_libc: Final = c.CDLL(None, use_errno=True)
_libc.syscall.restype = c.c_long
_libc.syscall.argtypes = (c.c_long, c.c_int, c.c_char_p, c.POINTER(_OpenHow), c.c_size_t)


def _openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    """openat2(2). Raises OSError, and ValueError for a NUL in *path*."""
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    how = _OpenHow(flags, 0, resolve)
    for _ in range(_AGAIN):
        fd: int = _libc.syscall(_OPENAT2, directory, raw, c.byref(how), c.sizeof(how))
        if fd >= 0:
            return fd
        if c.get_errno() not in {errno.EAGAIN, errno.EINTR}:
            break
    raise OSError(c.get_errno(), os.strerror(c.get_errno()))


def _reopened(fd: int) -> int:
    """The file itself, of a descriptor that only names it. Its access time stays as it is."""
    path = f"/proc/self/fd/{fd}"
    try:
        return os.open(path, _READ | os.O_NOATIME)
    except PermissionError:  # only its owner may, and CAP_FOWNER
        return os.open(path, _READ)


def _held(stack: ExitStack, fd: int) -> int:
    stack.callback(os.close, fd)
    return fd


def _refusal(path: str, error: OSError | ValueError) -> Unreadable:
    if not isinstance(error, OSError):
        return Unreadable(f"{path!r}: not a path")
    if error.errno in _GONE:
        return Absent(f"{path}: {os.strerror(error.errno or 0)}")
    if error.errno == errno.ELOOP:
        return Unreadable(f"{path}: a symbolic link")
    return Unreadable(f"{path}: {os.strerror(error.errno or 0)}")


class _Job(NamedTuple):
    work: Callable[[], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    gates: tuple[asyncio.Semaphore, ...]  # those it has passed, to be opened when it is done


class Readers:
    """
    A few threads for work on files, made as they are needed.

    They are daemons, unlike those of `concurrent.futures`: a read that hangs must not
    keep the program from ending. Nothing in here takes a lock across a read.
    """

    def __init__(self) -> None:
        self._threads = self._running = 0  # touched by the event loop only
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lanes: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()
        self._of_root, self._of_users = asyncio.Semaphore(ROOTS), asyncio.Semaphore(USERS)

    async def call(self, work: Callable[[], T], lane: Hashable = "own") -> T:
        """
        *work*'s result or exception. Cancelled, it returns at once; work that has not
        begun is dropped, work that hangs keeps its thread, and its place in its *lane*:
        `Tree.lane`, where a number is a user's.
        """
        loop = asyncio.get_running_loop()
        gates = await self._passed(lane)
        future: asyncio.Future[T] = loop.create_future()
        self._running += 1
        if self._running > self._threads:
            self._threads += 1
            threading.Thread(target=self._work, name="ctrwatch-read", daemon=True).start()
        self._jobs.put(_Job(work, future, loop, gates))
        del gates  # a lane that nobody is in is forgotten
        return await future

    async def read(self, tree: Tree, name: str, limit: int) -> bytes:
        """`Tree.read` in a thread."""
        return await self.call(lambda: tree.read(name, limit), tree.lane)

    def close(self) -> None:
        """End the threads that do not hang. Sources share the readers, so any may close them."""
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0

    async def _passed(self, lane: Hashable) -> tuple[asyncio.Semaphore, ...]:
        own = self._lanes.get(lane)
        if own is None:
            own = self._lanes[lane] = asyncio.Semaphore(LANE)
        await own.acquire()
        shared = self._of_users if isinstance(lane, int) else self._of_root
        try:
            await shared.acquire()
        except BaseException:
            own.release()
            raise
        return own, shared

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            result, error = None, None
            if not job.future.cancelled():
                try:
                    result = job.work()
                except BaseException as raised:  # noqa: BLE001 - it is handed to the caller
                    error = raised
            try:
                job.loop.call_soon_threadsafe(self._settle, job, result, error)
            except RuntimeError:  # the loop has ended; nobody waits
                return
            del job, result, error

    def _settle(self, job: _Job, result: object, error: BaseException | None) -> None:
        self._running -= 1
        for gate in job.gates:
            gate.release()
        if job.future.cancelled():
            return
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)


class _Stamp(NamedTuple):
    """What changes when a file is written or replaced."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class ParsedFiles(Generic[T]):
    """
    Files that many questions need, parsed once for each time they are written.

    Runtimes replace their indexes by renaming, so that inode and times tell a new one.
    Holds the *most* recently used; *parse* runs in a reader's thread and may raise
    `Unreadable`.
    """

    def __init__(
        self, readers: Readers, parse: Callable[[bytes], T], *, limit: int, most: int
    ) -> None:
        self._readers = readers
        self._parse = parse
        self._limit = limit
        self._most = most
        self._known: OrderedDict[tuple[str, str], tuple[_Stamp, T]] = OrderedDict()
        self._changing = threading.Lock()

    async def get(self, tree: Tree, name: str) -> T:
        """Raises like `Tree.read`. Whose it is, is looked at each time."""
        return await self._readers.call(lambda: self.read(tree, name), tree.lane)

    def read(self, tree: Tree, name: str) -> T:
        """The same, for work that is in a reader's thread already."""
        key = tree.root, tree.path(name)
        stamp, value = self._load(tree, name, self._known.get(key))
        with self._changing:
            self._known[key] = stamp, value
            self._known.move_to_end(key)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return value

    def _load(self, tree: Tree, name: str, known: tuple[_Stamp, T] | None) -> tuple[_Stamp, T]:
        fd = tree.open(name)
        try:
            now = os.fstat(fd)
            stamp = _Stamp(now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
            if known is not None and known[0] == stamp:
                return known
            return stamp, self._parse(read_fd(fd, tree.path(name), self._limit))
        finally:
            os.close(fd)
