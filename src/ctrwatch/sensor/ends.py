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
import fcntl
import logging
import os
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from ctrwatch.sensor import proc

__all__ = ("Ends",)

log = logging.getLogger(__name__)

# One file for each container, one more on v1: of a host with more of them the rest is not heard.
_FILES: Final = 1 << 16
_FEW_FILES: Final = 1024
_SPARE: Final = 256  # files for all else
_A_TICK_NS: Final = 20_000_000  # /proc tells starts to the tick, 10 ms
# struct pidfd_info of Linux 6.15, include/uapi/linux/pidfd.h: 64 bytes, the exit code last.
_INFO: Final = struct.Struct("=QQ12I")
_INFO_EXIT: Final = 1 << 3
_SYS_PTRACE: Final = 19  # include/uapi/linux/capability.h
_GET_INFO: Final = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11  # _IOWR(0xFF, 11, …)


class _First(NamedTuple):
    pid: int
    pidfd: int


class Ends:
    """Calls *fired* with the serial of a container whose first process has ended."""

    def __init__(self, fired: Callable[[int], None]) -> None:
        self._fired = fired
        self._loop = asyncio.get_running_loop()
        self._firsts: dict[int, _First] = {}
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
            first = _First(pid, os.pidfd_open(pid))
        except ProcessLookupError:
            self._loop.call_soon(self._fired, serial)
            return
        except OSError as error:
            self._say(f"pidfd: {error.strerror}")
            return
        started_ns = proc.started_ns(pid)
        if started_ns is None or (start_ns and abs(started_ns - start_ns) > _A_TICK_NS):
            os.close(first.pidfd)  # another one has its pid
            self._loop.call_soon(self._fired, serial)
            return
        self._firsts[serial] = first
        self._loop.add_reader(first.pidfd, self._ended, serial, first.pidfd)

    def drop(self, serial: int) -> None:
        if (first := self._firsts.pop(serial, None)) is not None:
            self._loop.remove_reader(first.pidfd)
            os.close(first.pidfd)

    def close(self) -> None:
        for serial in [*self._firsts]:
            self.drop(serial)

    def status(self, serial: int) -> int | None:
        """How it ended, as wait(2) says it; None: not known, or not known yet."""
        if (first := self._firsts.get(serial)) is None:
            return None
        if self._may_ask and (status := _zombie(first.pid)) is not None:
            return status
        return _reaped(first.pidfd)

    def _say(self, why: str) -> None:
        if not self._said:
            self._said = True
            log.warning("%s; the end of some containers is not heard", why)

    def _ended(self, serial: int, pidfd: int) -> None:
        self._loop.remove_reader(pidfd)
        self._fired(serial)


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
