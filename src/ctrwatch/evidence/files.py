"""
Files that strangers wrote, read safely, in threads that may hang.

A bundle or a storage can lie on a file system that a user controls: a symbolic link
to a secret, a FIFO that never ends, a sparse terabyte, a dead NFS or FUSE mount. So a
file is opened without following a link and without waiting, must be a regular file of
bounded size, and is read by a thread that the event loop does not wait for at its end.
"""

from __future__ import annotations

import asyncio
import errno
import os
import queue
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

__all__ = ("Absent", "ParsedFiles", "Readers", "Unreadable", "open_regular", "read", "read_fd")

T = TypeVar("T")

# A thread is made only when all others are busy, so the bound costs nothing until
# files hang. One that hangs keeps its thread until the file system answers; with 16,
# fifteen dead mounts still leave every other container its evidence.
THREADS: Final = 16

_OPEN_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESRCH})


class Unreadable(Exception):  # noqa: N818 - it says what the file is
    """A file that is there but can't be used. Its text is a clause: "PATH: why"."""


class Absent(Unreadable):
    """There is no such file (or no such process)."""


def read(path: str, limit: int) -> bytes:
    """
    The whole regular file at *path*, at most *limit* bytes.

    Raises `Absent` where there is nothing, `Unreadable` for everything else: a link, a
    FIFO, a device, a larger file, an error of the file system.
    """
    fd = open_regular(path)
    try:
        return read_fd(fd, path, limit)
    finally:
        os.close(fd)


def open_regular(path: str) -> int:
    """A file descriptor of the regular file at *path*. Raises like `read`."""
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _refusal(path, error) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Unreadable(f"{path}: not a regular file")
    return fd


def read_fd(fd: int, path: str, limit: int) -> bytes:
    """What `read` returns, of an open file. *path* is for the message only."""
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


class Readers:
    """
    A few threads for work on files, made as they are needed.

    They are daemons, unlike those of `concurrent.futures`: a read that hangs must not
    keep the program from ending. Nothing in here takes a lock across a read.
    """

    def __init__(self, most: int = THREADS) -> None:
        self._most = most
        self._threads = 0
        self._outstanding = 0  # queued and running; touched by the event loop only
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    async def call(self, work: Callable[[], T]) -> T:
        """
        *work*'s result or exception. Cancelled, it returns at once; work that has not
        begun is dropped, work that hangs keeps its thread.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._outstanding += 1
        if self._outstanding > self._threads and self._threads < self._most:
            self._threads += 1
            threading.Thread(target=self._work, name="ctrwatch-read", daemon=True).start()
        self._jobs.put(_Job(work, future, loop))
        return await future

    async def read(self, path: str, limit: int) -> bytes:
        """`read` in a thread."""
        return await self.call(lambda: read(path, limit))

    def close(self) -> None:
        """End the threads that do not hang. Sources share the readers, so any may close them."""
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            result, error = None, None
            if not job.future.cancelled():
                try:
                    result = job.work()
                except BaseException as raised:  # noqa: BLE001 - it is handed to the caller
                    error = raised
            try:
                job.loop.call_soon_threadsafe(self._settle, job.future, result, error)
            except RuntimeError:  # the loop has ended; nobody waits
                return
            del job, result, error

    def _settle(
        self, future: asyncio.Future[Any], result: object, error: BaseException | None
    ) -> None:
        self._outstanding -= 1
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


class _Stamp(NamedTuple):
    """What changes when a file is written or replaced."""

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
        self._known: OrderedDict[str, tuple[_Stamp, T]] = OrderedDict()

    async def get(self, path: str) -> T:
        """Raises like `read`."""
        known = self._known.get(path)
        stamp, value = await self._readers.call(lambda: self._load(path, known))
        self._known[path] = stamp, value
        self._known.move_to_end(path)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return value

    def _load(self, path: str, known: tuple[_Stamp, T] | None) -> tuple[_Stamp, T]:
        fd = open_regular(path)
        try:
            now = os.fstat(fd)
            stamp = _Stamp(now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
            if known is not None and known[0] == stamp:
                return known
            return stamp, self._parse(read_fd(fd, path, self._limit))
        finally:
            os.close(fd)
