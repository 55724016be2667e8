"""
Looks at what the host uses while containers live: six files of /proc, in some 0.2 ms.

When to look is core/hostuse.py's. A timer is set only for the next look, so nothing wakes up
while no container lives.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from typing import Final

from ctrwatch.core.changes import Born, Gone
from ctrwatch.core.hostuse import FILES, HostBeat, figures
from ctrwatch.event import HostFigures, Unread
from ctrwatch.sensor.host import boot_clock_ns

__all__ = ("HostLooks", "read_host_figures")

# /proc/stat has 10 KB of interrupts and 100 bytes a CPU, /proc/diskstats 100 bytes a device.
_FILE_BYTES: Final = 1 << 20
_REASONS: Final = {
    errno.ENOENT: Unread.NOT_OFFERED,
    errno.EOPNOTSUPP: Unread.NOT_OFFERED,  # PSI that is compiled in and off: kernel/sched/psi.c
}


class HostLooks:
    """
    Begins when it is made, in a running loop. *looked* is called with the time and the figures.

    *settled_ns*: the beat while only old containers live.
    """

    def __init__(
        self, settled_ns: int, looked: Callable[[int, HostFigures], None], proc: str = "/proc"
    ) -> None:
        self._beat, self._looked, self._proc = HostBeat(settled_ns), looked, proc
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_ns: int | None = None  # the timer

    def heard(self, change: Born | Gone) -> None:
        now_ns = boot_clock_ns()
        if isinstance(change, Gone):
            self._plan(self._beat.gone(change.serial, now_ns), now_ns)
            return
        listed, born_ns = change.listed, change.boot_ns
        if listed is not None:
            born_ns = listed.init_start_ns or 0  # not known: as old as the boot
        self._plan(self._beat.born(change.serial, born_ns, now_ns), now_ns)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _plan(self, due_ns: int | None, now_ns: int) -> None:
        """A look that is planned already comes no later for it."""
        if due_ns is None or (self._rings_ns is not None and self._rings_ns <= due_ns):
            return
        self.close()
        self._rings_ns = due_ns
        self._timer = self._loop.call_later(max(0, due_ns - now_ns) / 1e9, self._look)

    def _look(self) -> None:
        self._timer = self._rings_ns = None
        now_ns = boot_clock_ns()
        self._looked(now_ns, read_host_figures(self._proc))
        self._plan(self._beat.looked(now_ns), now_ns)


def read_host_figures(proc: str = "/proc") -> HostFigures:
    """All that can be known now; what can't has its reason."""
    return figures({file: _read(os.path.join(proc, file)) for file in FILES})


def _read(path: str) -> bytes | Unread:
    try:
        with open(path, "rb", buffering=0) as file:
            return _whole(file.fileno())
    except OSError as error:
        return _REASONS.get(error.errno or 0, Unread.UNREADABLE)


def _whole(fd: int) -> bytes:
    """/proc/diskstats gives a page at a time."""
    parts, size = [], 0
    while size < _FILE_BYTES and (part := os.read(fd, _FILE_BYTES - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)
