"""
Enforcement: a container that breaks a rule is frozen or killed, if it may be, and it is told.

    judged ─▶ refusal? ─▶ strike (a thread) ─▶ settle (until it is so) ─▶ Enforcement
                            open by id, unsafe?, freeze, kill

The strike comes before everything else: a container is 12 ms or more from its first instruction
when it is judged. It is a thread's, for the kernel may hold a writer up for as long as it moves
processes between cgroups, and no event waits for that. A kill freezes first: what enters the
cgroup later stands still, until the next round kills it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ctrwatch.actions.cgroups import V1, Directory, Place, Unified, opened
from ctrwatch.core.describe import wall_ns
from ctrwatch.core.enforcing import (
    Action,
    Inside,
    Outcome,
    Result,
    Surroundings,
    enforcement,
    refusal,
    unsafe,
)
from ctrwatch.core.ids import birth_of
from ctrwatch.core.judge import Moment
from ctrwatch.event import ContainerEvent, Enforcement, Violation
from ctrwatch.model import CgroupKey
from ctrwatch.sensor import proc
from ctrwatch.sensor.host import Host, boot_clock_ns

__all__ = ("Enforcer",)

log = logging.getLogger(__name__)

_THREADS: Final = 4  # more would wait for the same lock in the kernel (cgroup_mutex)
# Containers that are being stopped. Beyond that there is no room for their descriptors; what
# comes then is refused, and told so.
_AT_ONCE: Final = 128
_SETTLE_S: Final = 10.0  # a process that does not die by then hangs in the kernel
_PAUSES_S: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.05)  # the last one from then on
# After the strike, before it is told: the start of a container is read within 10 ms of it.
_HEARD_S: Final = 0.04
_GRACE_S: Final = 1.0  # at the end, for those that are being stopped
_STARTS: Final = 10_000  # births whose start is remembered, 200 bytes each
_READ_PROCESSES: Final = 1_024  # that are looked at before the strike


class _Life:
    """Of a birth that was told: when its first instruction was, if it has been."""

    def __init__(self, start_ns: int | None = None) -> None:
        self.start_ns = start_ns  # wall clock


class _Struck:
    """What was opened, and since when (wall clock) nothing new runs in it."""

    def __init__(
        self, places: Sequence[Place] = (), *, met: bool = False, refused: str = ""
    ) -> None:
        self.places, self.refused = places, refused
        self.met = met  # somebody was in it
        self.at_ns = time.time_ns()

    def close(self) -> None:
        for place in self.places:
            place.directory.close()


_Holds = Callable[[_Struck], Awaitable[bool]]


class _Job:
    """One container that is being stopped, for one violation or for several."""

    def __init__(self, action: Action, event: ContainerEvent, life: _Life) -> None:
        self.action, self.event, self.life = action, event, life
        self.violations: list[Violation] = []
        self.outcome: Outcome | None = None


class Enforcer:
    """
    `judged` takes each violation, `heard` each event, both from the event loop, in order.

    *tell* is called there for each `Enforcement`. *places* gives all directories of the container
    that has one. *dry_run*: everything but the writing. *blind*: starts are not heard.
    """

    def __init__(
        self,
        host: Host,
        places: Callable[[CgroupKey], Sequence[CgroupKey]],
        tell: Callable[[Enforcement], None],
        *,
        dry_run: bool = False,
        blind: bool = False,
    ) -> None:
        self._host, self._places, self._tell = host, places, tell
        self._dry_run, self._blind = dry_run, blind
        self._lives: OrderedDict[str, _Life] = OrderedDict()  # by birth, oldest first
        self._jobs: dict[str, _Job] = {}  # by birth
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(_THREADS, "enforce")
        self._threads.submit(int)  # the first thread is there before it is needed: 3 ms less
        self.done: Counter[tuple[str, str]] = Counter()

    def heard(self, event: ContainerEvent) -> None:
        birth = birth_of(event.id)
        match event.event:
            case "container_create":
                self._lives[birth] = _Life()
                if len(self._lives) > _STARTS:
                    self._lives.popitem(last=False)
            case "container_start":
                if (life := self._lives.get(birth)) is not None:
                    life.start_ns = wall_ns(event.time)
            case "container_remove":
                self._lives.pop(birth, None)
            case "container_update" | "existing_container":
                pass

    def judged(self, violation: Violation, event: ContainerEvent, moment: Moment = "birth") -> None:
        """Do what the violated rule asks for; `log` is nothing. *moment*: of the container's life."""
        if violation.action == "log":
            return
        ended = "its first process has ended" if moment == "ended" else ""
        if why := ended or refusal(violation, event):
            self._say(violation, violation.action, Outcome("refused", why))
            return
        birth = birth_of(event.id)
        job = self._jobs.get(birth)
        if job is not None and job.action in (violation.action, "kill"):
            self._join(job, violation)
        elif len(self._jobs) >= _AT_ONCE:
            why = f"{_AT_ONCE} containers are being stopped already"
            self._say(violation, violation.action, Outcome("failed", why))
        else:
            life = self._lives.get(birth) or _Life()
            if moment == "running" and life.start_ns is None:
                life = _Life(0)  # that was not heard, or is so long ago that it is forgotten
            job = _Job(violation.action, event, life)
            job.violations.append(violation)
            self._jobs[birth] = job
            self._begin(self._stop(birth, job))

    async def close(self) -> None:
        """What is being stopped is told; what is not dead a second later is told as failed."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_GRACE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _join(self, job: _Job, violation: Violation) -> None:
        if job.outcome is None:
            job.violations.append(violation)
        else:
            self._say(violation, job.action, job.outcome)

    # --- one container --------------------------------------------------------------------

    async def _stop(self, birth: str, job: _Job) -> None:
        struck = _Struck()
        try:
            struck = await self._in_thread(self._strike, self._keys(job.event), job)
            outcome = await self._settled(job, struck)
        except OSError as error:
            outcome = Outcome("failed", error.strerror or "the kernel did not do it")
        except asyncio.CancelledError:
            outcome = Outcome("failed", "ctrwatch ended before it was known")
        try:
            job.outcome = outcome
            for violation in job.violations:
                self._say(violation, job.action, outcome)
            if job.action == "kill" and not self._dry_run:
                await self._rest(struck.places)
        finally:
            struck.close()
            if self._jobs.get(birth) is job:  # not one that kills what this one froze
                del self._jobs[birth]

    def _keys(self, event: ContainerEvent) -> Sequence[CgroupKey]:
        """The judged cgroup first, then the same container's in other hierarchies."""
        judged = CgroupKey(event.cgroup.hierarchy_id or 0, event.cgroup.id or 0)
        return (judged, *(key for key in self._places(judged) if key != judged))

    async def _settled(self, job: _Job, struck: _Struck) -> Outcome:
        """Wait until it is so, or has no prospect."""
        if struck.refused:
            return Outcome("refused", struck.refused)
        if not struck.places:
            return Outcome("failed", "its cgroup has gone")
        holds = self._dead if job.action == "kill" else self._still
        settled = self._dry_run or await self._until(holds, struck)
        await asyncio.sleep(_HEARD_S)
        if not settled:
            who = "there are still processes that run" if struck.met else "nobody had entered it"
            return Outcome("failed", f"after {_SETTLE_S:g} s {who}")
        start_ns = job.life.start_ns
        unheard = self._blind and start_ns is None
        before = None if unheard else start_ns is None or start_ns > struck.at_ns
        result: Result = "dry_run" if self._dry_run else "done"
        return Outcome(result, before_start=before, at_ns=struck.at_ns)

    async def _until(self, holds: _Holds, struck: _Struck) -> bool:
        """Ask until it holds; False: not within the deadline."""
        deadline_s = time.monotonic() + _SETTLE_S
        pauses_s = iter(_PAUSES_S)
        while not await holds(struck):
            if time.monotonic() > deadline_s:
                return False
            await asyncio.sleep(next(pauses_s, _PAUSES_S[-1]))
        return True

    async def _still(self, struck: _Struck) -> bool:
        """Where it is frozen stand all that are in it, and all that will be."""
        try:
            frozen = all(place.frozen() for place in struck.places)
        except FileNotFoundError:
            frozen = True  # it has gone, and nothing runs
        struck.at_ns = time.time_ns()
        return frozen

    async def _dead(self, struck: _Struck) -> bool:
        states = [place.state() for place in struck.places]
        if "populated" not in states:
            return struck.met or "gone" in states
        if not struck.met:  # where it was frozen before, nothing ran until now
            struck.met = True
            if not any(isinstance(place, Unified) for place in struck.places):
                struck.at_ns = time.time_ns()
        await self._in_thread(_kill_again, struck.places)
        return False

    async def _rest(self, places: Sequence[Place]) -> None:
        """
        Stay until the cgroup is removed, for the runtime's next process would be let in.

        A cgroup that stays is thawed: a container that is started in it again is another birth.
        """
        with contextlib.suppress(OSError, asyncio.CancelledError):
            deadline_s = time.monotonic() + _SETTLE_S
            while time.monotonic() < deadline_s:
                states = {place.state() for place in places}
                if states <= {"gone"}:
                    return
                if "populated" in states:
                    await self._in_thread(_kill_again, places)
                await asyncio.sleep(_PAUSES_S[-1])
        for place in places:
            with contextlib.suppress(OSError):
                place.thaw()

    async def _in_thread(self, work: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    # --- in a thread ----------------------------------------------------------------------

    def _strike(self, keys: Sequence[CgroupKey], job: _Job) -> _Struck:
        """Open by id, look who is there, freeze, kill."""
        found: list[tuple[CgroupKey, Directory]] = []
        kept: set[Directory] = set()
        try:
            for key in _wanted(self._host, keys):
                if (directory := opened(self._host, key)) is not None:
                    found.append((key, directory))
                    if why := self._unsafe(key, directory, job.event):
                        return _Struck(refused=why)
            places = _places(self._host, found)
            met = any(place.directory.processes() for place in places)
            if not self._dry_run:
                _stop(places, job.action)
            kept = {place.directory for place in places}
            return _Struck(places, met=met)
        finally:
            for _, directory in found:
                if directory not in kept:
                    directory.close()

    def _unsafe(self, key: CgroupKey, directory: Directory, event: ContainerEvent) -> str:
        number = key.hierarchy_id
        path = self._host.path(key, directory.fileno())
        us = os.getpid()
        own, first = proc.cgroups(us).get(number), proc.cgroups(1).get(number)
        if path is None or own is None or first is None:
            return "it can't be told whose cgroup it is"
        pids = directory.processes()[:_READ_PROCESSES]
        born_ns = event.ctime or wall_ns(event.time)
        inside = [one for pid in pids if (one := _inside(pid, born_ns)) is not None]
        return unsafe(Surroundings(path, own, first, us, inside), event.creator.uid)

    def _say(self, violation: Violation, action: Action, outcome: Outcome) -> None:
        self.done[action, outcome.result] += 1
        if outcome.result in ("refused", "failed"):
            log.warning("%s of %s: %s: %s", action, violation.container_id, *outcome[:2])
        self._tell(enforcement(violation, action, outcome, time.time_ns()))


def _wanted(host: Host, keys: Sequence[CgroupKey]) -> Sequence[CgroupKey]:
    """The unified hierarchy's and the freezer's; where there is neither, the judged one."""
    names = {number: each.controllers for number, each in host.hierarchies.items()}
    unified = [key for key in keys if names.get(key.hierarchy_id) == ""]
    freezer = [key for key in keys if "freezer" in names.get(key.hierarchy_id, "").split(",")]
    return [*unified[:1], *freezer[:1]] or keys[:1]


def _places(host: Host, found: Sequence[tuple[CgroupKey, Directory]]) -> list[Place]:
    """The unified one alone, if the container's processes are in it already; else all."""
    places: list[Place] = []
    for key, directory in found:
        controllers = host.hierarchies[key.hierarchy_id].controllers
        if controllers == "":
            if directory.processes():
                return [Unified(directory)]
            places.append(Unified(directory))
        else:
            places.append(V1(directory, freezer="freezer" in controllers.split(",")))
    return places


def _inside(pid: int, born_ns: int) -> Inside | None:
    task = proc.task(pid)
    if task is None:
        return None  # it has ended
    now_ns, boot_ns = time.time_ns(), boot_clock_ns()
    return Inside(pid, task.comm, task.uid, (born_ns - (now_ns - boot_ns + task.start_ns)) / 1e9)


def _stop(places: Sequence[Place], action: Action) -> None:
    """Raises OSError where it can't be done; then nothing is left frozen."""
    try:
        for place in places:
            if action == "freeze":
                place.freeze()
            else:
                with contextlib.suppress(OSError):  # it is killed all the same
                    place.freeze()
                place.kill()
    except OSError:
        for place in places:
            with contextlib.suppress(OSError):
                place.thaw()
        raise


def _kill_again(places: Sequence[Place]) -> None:
    for place in places:
        with contextlib.suppress(OSError):  # it has gone
            place.kill()
