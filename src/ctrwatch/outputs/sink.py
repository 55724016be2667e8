"""
Whole lines to a descriptor: a file takes them by one write(2), or not at all.

A regular file is appended to by one write(2) of whole lines. Linux holds the inode's lock for
all of it (ext4, xfs, btrfs, tmpfs; not NFS), so with O_APPEND two programs may write to one
file and no line is torn. Where the disk has room for a part only, the part of a line is taken
back. Pipes, sockets and terminals take what they can, and are waited for.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

__all__ = ("Sink",)

# Of what is no file only these pass: EIO is a terminal that has gone, EPIPE a reader.
_PASSING: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Sink:
    """*fd* stays the caller's. One thread at a time."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        self._takes = _is_whole(fd)  # lines without waiting
        # A crash of the machine, or somebody else, may have left half a line at the end. Looked
        # at now, not before the first write: another who is writing then shows half of his, too.
        self._torn = self.is_file and _ends_torn(fd)

    def passes(self, error: OSError) -> bool:
        """Whether it may be written to again, later."""
        return self.is_file or error.errno in _PASSING

    def offer(self, line: bytes) -> bool:
        """
        Whether *line* was written at once, by the caller's thread: never waits (RWF_NOWAIT,
        pwritev2(2)), and never writes a part. Where the kernel can't promise that, and where a
        write fails, nothing is written; `write` will see why.
        """
        if not self._takes or len(line) > select.PIPE_BUF:
            return False
        try:
            return os.pwritev(self.fd, (line,), -1, os.RWF_NOWAIT) == len(line)
        except BlockingIOError:
            return False
        except OSError:
            self._takes = False
            return False

    def write(self, lines: Sequence[bytes], wrote: Callable[[int], None]) -> None:
        """*wrote* is told how many more are written whole. Raises OSError; the rest is not there."""
        if self.is_file:
            self._append(lines, wrote)
        else:
            self._push(lines, wrote)

    def _append(self, lines: Sequence[bytes], wrote: Callable[[int], None]) -> None:
        while lines:
            torn = self._torn and _ends_torn(self.fd)
            data = b"".join((b"\n", *lines) if torn else lines)
            done = os.write(self.fd, data)
            if done == len(data):
                self._torn = False
                wrote(len(lines))
                return
            # It is full, though the kernel says so only to the next write.
            ends = [end + torn for end in accumulate(map(len, lines))]
            whole = sum(end <= done for end in ends)
            kept = ends[whole - 1] if whole else 0
            back = self._take_back(done - kept)
            self._torn = not back or (torn and not whole)
            wrote(whole)
            if not whole:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            lines = lines[whole:]

    def _take_back(self, size: int) -> bool:
        """
        Remove the last *size* bytes that we wrote, if nobody wrote after them.

        Who writes between the question and the cut would lose by it; but that takes a disk that
        was full a microsecond ago and has room again.
        """
        try:
            end = os.lseek(self.fd, 0, os.SEEK_CUR)
            if os.fstat(self.fd).st_size != end:
                return False
            os.ftruncate(self.fd, end - size)
            os.lseek(self.fd, end - size, os.SEEK_SET)  # for a file that is not in append mode
        except OSError:
            return False  # the next line begins with a newline
        return True

    def _push(self, lines: Sequence[bytes], wrote: Callable[[int], None]) -> None:
        data = memoryview(b"".join(lines))
        ends = list(accumulate(map(len, lines)))
        done = told = 0
        while done < len(data):
            try:
                done += os.write(self.fd, data[done:])
            except BlockingIOError:  # whoever shares the pipe made it non-blocking
                poller = select.poll()
                poller.register(self.fd, select.POLLOUT)
                poller.poll()
            whole = told + sum(end <= done for end in ends[told:])
            wrote(whole - told)
            told = whole


def _is_whole(fd: int) -> bool:
    """Whether it takes PIPE_BUF bytes whole or not at all: a pipe (pipe(7)), and a Unix socket."""
    mode = os.fstat(fd).st_mode
    if not stat.S_ISSOCK(mode):
        return stat.S_ISFIFO(mode)
    theirs = socket.socket(fileno=fd)
    try:
        return theirs.family == socket.AF_UNIX
    finally:
        theirs.detach()


def _ends_torn(fd: int) -> bool:
    """Whether the file's last byte is no newline; False where that can't be read."""
    try:
        size = os.fstat(fd).st_size
        # Ours is for writing only; /proc opens the same file, wherever it was moved.
        reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return size > 0 and os.pread(reading, 1, size - 1) not in (b"\n", b"")
    except OSError:
        return False
    finally:
        os.close(reading)
