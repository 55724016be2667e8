"""
Looks at what containers use, when it is worth it: attention that fades, and ends that are heard.

A stage beside the chain, as the rounds are: each look is an input (`Sampled`) like any other,
and what is told of it is the chain's. When to look is core/attention.py's. Besides that the
kernel wakes it: the first process of a container has ended (sensor/ends.py), so that its use is
read before the runtime removes the cgroup; a process was killed for want of memory
(sensor/ooms.py). Nothing waits for a look, and all looks by the clock take no more than a tenth of a core.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from ctrwatch.core.attention import Attention
from ctrwatch.core.chain import Chain, Input
from ctrwatch.core.changes import Begun, Born, Gone, Living, Placed, Started
from ctrwatch.core.hostuse import HostSampled
from ctrwatch.core.ledger import Exited, Sampled
from ctrwatch.event import HostFigures, Usage
from ctrwatch.model import NOWHERE, CgroupKey
from ctrwatch.sensor.ends import End, Ends
from ctrwatch.sensor.host import Host, boot_clock_ns
from ctrwatch.sensor.hostuse import HostUse
from ctrwatch.sensor.ooms import Ooms
from ctrwatch.sensor.usage import UsageReader

__all__ = ("Meter",)

_AT_ONCE: Final = 4  # looks, of 0.2 ms each: then births have their turn
_TURN_NS: Final = 1_000_000  # the same where a thousand rules on use make a look 4 ms long
_REST: Final = 9  # times as long as the looks took: a tenth of a core in the worst case
# When the kernel's word of a kill comes the count is not there yet on v1; it takes a millisecond.
_KILL_S: Final = (0.002, 0.02, 0.1)
# v2's comes when a container reaches its limit, and again 10 ms later at the earliest. When its first
# process is killed the cgroup, with the count, may have gone by then: it is looked for at once.
_LIMIT_S: Final = (*((0.002,) * 6), *((0.01,) * 3), 0.05)
_LIMIT_PAUSE_NS: Final = 1_000_000_000  # one that is always at its limit is no news
# Kills are told once a second of a container, and so looked at. Over all containers so many looks a
# second, of 0.3 ms each: 3 % of a core. The others are looked at by the clock, within a second or two.
_KILL_PAUSE_NS: Final = 1_000_000_000
_KILL_LOOKS: Final = 100
# Until the first process's parent has waited for it: a shim does at once, a busy one later.
_WAITED_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


class _Subject:
    __slots__ = ("at_limit_ns", "cgroup", "ended", "heard", "killed_ns", "kills", "living")

    def __init__(self, cgroup: CgroupKey) -> None:
        self.cgroup = cgroup  # one of its directories
        self.living: Living | None = None  # as it was when it was asked for last
        self.ended = False  # its first process
        self.heard = False  # kills are
        self.kills: int | None = None
        self.killed_ns: int | None = None  # when it was looked at for a kill last
        self.at_limit_ns: int | None = None  # when its kills were last looked for closely


class Meter:
    """
    Reads the use of *chain*'s containers and gives it to *feed*.

    Begins when it is made, in a running loop; `heard` takes what the chain says of lives.
    """

    def __init__(
        self,
        host: Host,
        chain: Chain,
        feed: Callable[[Input], None],
        *,
        settled_ns: int,
        ages_ns: tuple[int, ...],
    ) -> None:
        self._chain, self._feed = chain, feed
        self._reader = UsageReader(host)
        self._attention = Attention(settled_ns, ages_ns)
        self._host = HostUse(settled_ns, self._host_looked)
        self._ooms, self._ends = (
            Ooms(self._at_limit, self._oom_to_come),
            Ends(self._last_look, self._ended),
        )
        self._subjects: dict[int, _Subject] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_ns: int | None = None  # the timer
        self._rests_ns = 0  # until then nobody is looked at by the clock
        self._second_ns = self._kill_looks = 0  # looks for kills in the second that began then
        self._closed = False

    def heard(self, change: Born | Placed | Begun | Started | Gone) -> None:
        serial = change.serial
        if isinstance(change, Born):
            self._born(change)
        elif isinstance(change, Gone):
            self._host.heard(change)
            self._drop(serial)
        elif serial not in self._subjects:
            pass  # it is remembered only
        elif isinstance(change, Placed):
            self._subjects[serial].cgroup = change.cgroup
            self._living(serial)
        elif isinstance(change, Begun):
            self.first(serial, change.task.pid, change.task.start_ns)
        else:
            self._hear_kills(serial)
            self._ends.watch(serial, change.task.pid, change.task.start_ns)
            self._attention.started(serial, boot_clock_ns())
            self._plan()

    def first(self, serial: int, pid: int | None, start_ns: int = 0) -> None:
        """
        The container's first process, by its pid namespace, some 20 ms before it runs anything.

        So that its end is heard, and known, also of one that lives for a millisecond.
        """
        if pid is not None and self._living(serial) is not None:
            self._ends.watch(serial, pid, start_ns)

    def follow(self, serials: Iterable[int], every_ns: int) -> None:
        """
        Somebody looks at the use of these containers: look at them so often, until the next call.

        At most 256 of them, and never with more than a tenth of a core. See core/attention.py.
        """
        self._attention.follow(serials, every_ns, boot_clock_ns())
        self._plan()

    async def sweep(self) -> None:
        """Look at everybody once, now: 0.3 ms each. Inputs have their turn between the looks."""
        for number, serial in enumerate(tuple(self._subjects)):
            if serial in self._subjects and not self._closed:
                self._read(serial)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def rouse(self, serial: int) -> None:
        """Somebody wants to know more: look at it each second for a while."""
        self._attention.rouse(serial, boot_clock_ns())
        self._plan()

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._host.close()
        self._ooms.close()
        self._ends.close()

    # --- whose use ------------------------------------------------------------------------

    def _born(self, born: Born) -> None:
        if born.cgroup == NOWHERE:
            return  # it has ended, and is remembered only
        self._subjects[born.serial] = _Subject(born.cgroup)
        self._host.heard(born)
        listed, born_ns = born.listed, born.boot_ns
        if listed is not None:
            born_ns = listed.init_start_ns or 0  # not known: as old as the boot
            self._hear_kills(born.serial)
            if listed.init_pid is not None:
                self._ends.watch(born.serial, listed.init_pid, listed.init_start_ns or 0)
        self._attention.add(born.serial, born_ns, boot_clock_ns())
        self._plan()

    def _drop(self, serial: int) -> None:
        if self._subjects.pop(serial, None) is not None:
            self._attention.drop(serial)
            self._ooms.drop(serial)
            self._ends.drop(serial)

    def _living(self, serial: int) -> Living | None:
        """With the directories that it has now; None: it has ended."""
        if (subject := self._subjects.get(serial)) is None:
            return None
        if (living := self._chain.living_at(subject.cgroup)) is not None:
            subject.living = living
        return living

    def _hear_kills(self, serial: int) -> None:
        living = self._living(serial)
        if living is None or self._subjects[serial].heard:
            return
        self._subjects[serial].heard = True
        for version, file in ((1, "memory.oom_control"), (2, "memory.events")):
            directory = self._reader.directory(living, version, file)
            if directory is not None:
                self._ooms.watch(serial, version, directory)
                return

    # --- by the clock ---------------------------------------------------------------------

    def _plan(self) -> None:
        """Ring when the next one is due, but not before the rest is over, whoever asks."""
        due_ns = self._attention.next_ns()
        if due_ns is None or self._closed:
            return
        now_ns = boot_clock_ns()
        due_ns = max(due_ns, now_ns, self._rests_ns)
        if self._timer is not None and self._rings_ns is not None:
            if self._rests_ns <= self._rings_ns <= due_ns:
                return
            self._timer.cancel()
        self._rings_ns = due_ns
        self._timer = self._loop.call_later((due_ns - now_ns) / 1e9, self._look)

    def _look(self) -> None:
        self._timer = self._rings_ns = None
        began_ns = time.perf_counter_ns()
        for _ in range(_AT_ONCE):
            for serial in self._attention.due(boot_clock_ns(), 1):
                self._hear_kills(serial)
                self._read(serial)
            if time.perf_counter_ns() - began_ns > _TURN_NS:
                break
        self._rests_ns = boot_clock_ns() + _REST * (time.perf_counter_ns() - began_ns)
        self._plan()

    def _read(self, serial: int) -> None:
        if (living := self._living(serial)) is not None:
            now_ns = boot_clock_ns()
            self._looked(serial, self._reader.read(living), now_ns)

    def _looked(self, serial: int, usage: Usage, at_ns: int) -> None:
        subject = self._subjects[serial]
        subject.kills = usage.oom_kills
        self._feed(Sampled(boot_ns=at_ns, serial=serial, usage=usage, final=subject.ended))

    def _host_looked(self, at_ns: int, usage: HostFigures) -> None:
        self._feed(HostSampled(boot_ns=at_ns, usage=usage))

    # --- by the kernel's word ---------------------------------------------------------------

    def _oom(self, serial: int, turns: tuple[float, ...] = ()) -> None:
        """Look for more kills than there were, now and after so many seconds each."""
        living = self._living(serial)
        if living is None or self._closed:
            return
        kills = self._reader.kills(living)
        if kills is not None and kills > (self._subjects[serial].kills or 0):
            self._attention.rouse(serial, boot_clock_ns())
            self._plan()
            if self._has_turn(self._subjects[serial]):
                self._read(serial)
        elif turns:
            self._loop.call_later(turns[0], self._oom, serial, turns[1:])

    def _has_turn(self, subject: _Subject) -> bool:
        """Whether it is looked at for a kill now. Else it is roused, and looked at by the clock."""
        now_ns = boot_clock_ns()
        if now_ns - self._second_ns >= _KILL_PAUSE_NS:
            self._second_ns, self._kill_looks = now_ns, 0
        lately = subject.killed_ns is not None and now_ns - subject.killed_ns < _KILL_PAUSE_NS
        if lately or self._kill_looks >= _KILL_LOOKS:
            return False
        subject.killed_ns, self._kill_looks = now_ns, self._kill_looks + 1
        return True

    def _at_limit(self, serial: int) -> None:
        """It has reached its memory limit, or a process of it was killed: v2 does not say which."""
        if (subject := self._subjects.get(serial)) is None:
            return
        now_ns = boot_clock_ns()
        news = subject.at_limit_ns is None or now_ns - subject.at_limit_ns >= _LIMIT_PAUSE_NS
        if news:
            subject.at_limit_ns = now_ns
        self._oom(serial, _LIMIT_S if news else ())

    def _oom_to_come(self, serial: int) -> None:
        self._oom(serial, _KILL_S)

    def _last_look(self, serial: int) -> Usage | None:
        """In the thread of `Ends`: the runtime will remove the cgroup in a moment."""
        subject = self._subjects.get(serial)
        living = subject.living if subject is not None else None
        return self._reader.read(living) if living is not None else None

    def _ended(self, end: End) -> None:
        if (subject := self._subjects.get(end.serial)) is None or self._closed:
            return
        subject.ended = True
        if end.status is not None:
            self._exited(end.serial, end.status)
        if end.usage is not None:
            self._looked(end.serial, end.usage, end.boot_ns)
        else:
            self._read(end.serial)
        if end.status is None:
            self._ask(end.serial, 0)

    def _ask(self, serial: int, turn: int) -> None:
        if serial not in self._subjects or self._closed:
            return
        if (status := self._ends.status(serial)) is not None:
            self._exited(serial, status)
        elif turn < len(_WAITED_S):
            self._loop.call_later(_WAITED_S[turn], self._ask, serial, turn + 1)

    def _exited(self, serial: int, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        self._feed(
            Exited(
                boot_ns=boot_clock_ns(),
                serial=serial,
                code=code if code >= 0 else None,
                signal=-code if code < 0 else None,
            )
        )
