"""
Hears that a container's first process has ended, and how.

By a pidfd, which becomes readable when the process is dead and its parent has not been told yet
(Linux 5.3). With the first process of a pid namespace all the others have ended before: what
is read now is the whole life's use, some milliseconds before the runtime removes the cgroup.

How it ended is told by ``/proc/PID/stat`` until its parent has waited for it, which is a race, and
after that by the pidfd itself, since Linux 6.15 (PIDFD_GET_INFO, PIDFD_INFO_EXIT).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import resource
import select
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from ctrwatch.event import Usage
from ctrwatch.sensor import proc
from ctrwatch.sensor.host import boot_clock_ns

__all__ = ("End", "Ends")

log = logging.getLogger(__name__)

# One file for each container, one more on v1: of a host with more of them the rest is not heard.
_FILES: Final = 1 << 16
_FEW_FILES: Final = 1024
_SPARE: Final = 256  # files for all else
_AT_ONCE: Final = 4  # looks, of 0.2 ms each, before others may watch and drop
# For the thread that looks, to have its turn: Python's own 5 ms are what a runtime may take.
_SWITCH_S: Final = 0.001
_A_TICK_NS: Final = 20_000_000  # /proc tells starts to the tick, 10 ms
# struct pidfd_info of Linux 6.15, include/uapi/linux/pidfd.h: 64 bytes, the exit code last.
_INFO: Final = struct.Struct("=QQ12I")
_INFO_EXIT: Final = 1 << 3
_SYS_PTRACE: Final = 19  # include/uapi/linux/capability.h
_GET_INFO: Final = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11  # _IOWR(0xFF, 11, …)


class End(NamedTuple):
    """A container's first process has ended; `usage` was read at *boot_ns*, None: not yet."""

    serial: int
    boot_ns: int
    usage: Usage | None
    status: int | None  # as wait(2) says it; None: not known, or not known yet


class _First(NamedTuple):
    serial: int
    pid: int
    pidfd: int


class Ends:
    """
    Calls *ended* for each container whose first process has ended, in the loop that it is made in.

    What it used is read by *look*, in a thread of its own: the runtime does not wait until
    a busy loop has its turn.
    """

    def __init__(self, look: Callable[[int], Usage | None], ended: Callable[[End], None]) -> None:
        self._look, self._ended = look, ended
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()  # held for as long as a look takes
        self._firsts: dict[int, _First] = {}  # by serial
        self._by_pidfd: dict[int, _First] = {}
        self._epoll = select.epoll()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll.register(self._stop, select.EPOLLIN)
        self._thread: threading.Thread | None = None
        self._may_ask = _has(_SYS_PTRACE)  # else stat says 0, whatever it was: fs/proc/array.c
        self._most = _more_files() - _SPARE
        self._said = False

    def watch(self, serial: int, pid: int, start_ns: int) -> None:
        """*start_ns*: CLOCK_BOOTTIME of its start, so that no other is taken for it; 0: not known."""
        if (known := self._firsts.get(serial)) is not None:
            if known.pid == pid:
                return
            self.drop(serial)  # the later word is the kernel's own
        if 2 * len(self._firsts) > self._most:
            self._say(f"{len(self._firsts)} processes are watched already")
            return
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._loop.call_soon(self._ended, End(serial, 0, None, None))
            return
        except OSError as error:
            self._say(f"pidfd: {error.strerror}")
            return
        started_ns = proc.started_ns(pid)
        if started_ns is None or (start_ns and abs(started_ns - start_ns) > _A_TICK_NS):
            os.close(pidfd)  # another one has its pid
            self._loop.call_soon(self._ended, End(serial, 0, None, None))
            return
        self._begin()
        with self._lock:
            first = _First(serial, pid, pidfd)
            self._firsts[serial] = self._by_pidfd[pidfd] = first
            self._epoll.register(pidfd, select.EPOLLIN)

    def drop(self, serial: int) -> None:
        with self._lock:
            if (first := self._firsts.pop(serial, None)) is not None:
                del self._by_pidfd[first.pidfd]
                # To close it does not take it out of epoll's set, where a program that is being
                # started has a copy: epoll(7), "Questions and answers".
                with contextlib.suppress(FileNotFoundError):  # its end was heard
                    self._epoll.unregister(first.pidfd)
                os.close(first.pidfd)

    def close(self) -> None:
        os.eventfd_write(self._stop, 1)
        if self._thread is not None:
            self._thread.join()
        for serial in [*self._firsts]:
            self.drop(serial)
        self._epoll.close()
        os.close(self._stop)

    def status(self, serial: int) -> int | None:
        """How it ended, as wait(2) says it; None: not known, or not known yet."""
        first = self._firsts.get(serial)
        return self._status(first) if first is not None else None

    def _status(self, first: _First) -> int | None:
        if self._may_ask and (status := _zombie(first.pid)) is not None:
            return status
        return _reaped(first.pidfd)

    def _begin(self) -> None:
        if self._thread is None:
            sys.setswitchinterval(_SWITCH_S)
            self._thread = threading.Thread(target=self._wait, name="ends", daemon=True)
            self._thread.start()

    def _wait(self) -> None:
        """In the thread, until `close`."""
        while True:
            self._epoll.poll()
            with self._lock:  # what was dropped meanwhile is not among these
                for fd, _ in self._epoll.poll(0, _AT_ONCE):
                    if fd == self._stop:
                        return
                    self._epoll.unregister(fd)
                    self._last_look(self._by_pidfd[fd])

    def _last_look(self, first: _First) -> None:
        status = self._status(first)  # it is a zombie for a moment only
        now_ns = boot_clock_ns()
        usage = self._look(first.serial)
        end = End(first.serial, now_ns, usage, status)
        self._loop.call_soon_threadsafe(self._ended, end)

    def _say(self, why: str) -> None:
        if not self._said:
            self._said = True
            log.warning("%s; the end of some containers is not heard", why)


def _zombie(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    # From the third on: its state; the 52nd is its exit code (proc(5)).
    return int(fields[49]) if len(fields) > 49 and fields[0] in (b"Z", b"X") else None


def _reaped(pidfd: int) -> int | None:
    raw = bytearray(_INFO.size)
    struct.pack_into("=Q", raw, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, raw)
    except OSError:
        return None  # older than Linux 6.13
    mask, *_, status = _INFO.unpack(raw)
    return int(status) if mask & _INFO_EXIT else None


def _has(capability: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> capability & 1)
    return False


def _more_files() -> int:
    """As many as this process may have, within reason; it begins with 1,024 under systemd."""
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
        if soft == resource.RLIM_INFINITY or soft >= most:
            return most
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):
        return _FEW_FILES  # a filter of system calls forbids both, as the unit in packaging/ does
    return most
