"""
Who made cgroups: processes that are known by a pid and a pidfd, looked up while they live.

Their command lines are read by threads: the kernel waits in there for the lock of the
process's memory map, and a stranger can hold that for as long as he likes.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import signal
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from ctrwatch.evidence.files import Readers
from ctrwatch.model import Task
from ctrwatch.sensor import proc

__all__ = ("DEADLINE_S", "CommandLines", "Makers")

# It takes 0.1 ms, and on a host that has no time for us as long as the scheduler likes. All
# events wait for it; what is not read in time may be a container that is not recognised.
DEADLINE_S: Final = 0.1

# A dozen cgroups are made in 20 ms, in 100 on a busy host. In this time no host gives as many
# pids away as there are (32,768 at least), so none comes round.
_KNOWN_S: Final = 0.25
_KNOWN: Final = 1024

Argv = tuple[tuple[str, ...], bool]  # and whether it was cut


class CommandLines:
    """
    Reads command lines, as *read* does it for a pid.

    A user who lets the deadline pass is not asked again before he has answered: he holds
    up the events once. Of root's processes each answers for itself.
    """

    def __init__(self, read: Callable[[int], Argv]) -> None:
        self._read = read
        self._readers = Readers()
        self._late: dict[int, asyncio.Future[Argv]] = {}  # by user, or root's by minus their pid

    async def of(self, tasks: Iterable[Task]) -> dict[int, Argv]:
        """By pid, those that come in time."""
        self._late = {whose: late for whose, late in self._late.items() if not late.done()}
        asked = {
            task: asyncio.ensure_future(self._call(task))
            for task in tasks
            if _whose(task) not in self._late
        }
        if asked:
            await asyncio.wait(asked.values(), timeout=DEADLINE_S)
        self._late |= {_whose(task): each for task, each in asked.items() if not each.done()}
        return {task.pid: each.result() for task, each in asked.items() if each.done()}

    async def _call(self, task: Task) -> Argv:
        lane = task.uid or f"argv of {task.pid}"
        return await self._readers.call(functools.partial(self._read, task.pid), lane)

    def close(self) -> None:
        for late in self._late.values():
            late.cancel()
        self._readers.close()


class Makers:
    """
    Processes that make cgroups, by pid.

    On v1 an OCI runtime makes a dozen, and may have ended when we read of the last. Then it
    is who it was a moment ago.
    """

    def __init__(self) -> None:
        self._command_lines = CommandLines(proc.argv)
        self._known: OrderedDict[int, tuple[float, Task]] = OrderedDict()  # when, who

    async def look(self, pidfds: Mapping[int, int]) -> dict[int, Task]:
        """
        The processes by pid, without those of whom nothing can be learnt any more.

        *pidfds* are theirs, negative where they have ended. One that is alive when all is
        read has given its pid to no other.
        """
        tasks = {pid: task for pid in pidfds if (task := proc.task(pid)) is not None}
        argvs = await self._command_lines.of(tasks.values())
        now = time.monotonic()
        for pid, task in tasks.items():
            argv, is_cut = argvs.get(pid, ((), False))
            # One that has ended and is still there has no command line any more.
            if _is_there(pidfds[pid]) and (argv or pid not in self._known):
                self._know(now, msgspec.structs.replace(task, argv=argv, argv_cut=is_cut))
        while self._known and now - next(iter(self._known.values()))[0] > _KNOWN_S:
            self._known.popitem(last=False)
        return {pid: self._known[pid][1] for pid in pidfds if pid in self._known}

    def _know(self, now: float, task: Task) -> None:
        self._known[task.pid] = now, task
        self._known.move_to_end(task.pid)
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)

    def close(self) -> None:
        self._command_lines.close()


def _whose(task: Task) -> int:
    return task.uid or -task.pid


def _is_there(pidfd: int) -> bool:
    """The process has not ended, or nobody has waited for it yet: its pid is its own."""
    if pidfd < 0:
        return False
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True
