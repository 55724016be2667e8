"""
Looking at the host itself, where hearing is not enough.

The sensor hears every birth, but for those that came before it, while ctrwatch was away (a
`--state` knows since when), or while the kernel had to drop what it said. Then the cgroup tree
is walked, and the runtimes are asked what they list; what was not heard becomes an input of the
chain like any other. At a slow beat the same look audits the watch: what it finds that was not
announced, or has gone unheard, is an event.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

import msgspec

from ctrwatch.core import audit
from ctrwatch.core.chain import Chain, Ended, Input, Vanished
from ctrwatch.core.changes import Living
from ctrwatch.core.report import Found, Gap
from ctrwatch.event import ContainerEvent, Finding, GapReason
from ctrwatch.model import ContainerId, Leads, Listed, Listing, Record, Subject
from ctrwatch.outputs.state import Past
from ctrwatch.ports import Sensor
from ctrwatch.sensor.host import Host, boot_clock_ns, wall_offset_ns
from ctrwatch.sensor.scan import scan, still_there

__all__ = ("Rounds",)

_QUIET_S: Final = 0.2  # without a loss: then the storm is over
_STORM_S: Final = 5.0  # a longer one is looked through in pieces
_DRAIN_S: Final = 2.0  # for the ring to be read: 8 MB take half a second
_BEAT_S: Final = 0.01  # at which that is looked at: only in a round
_SINGLY: Final = 100  # of one user's containers that were not heard, in one look
_LATE_S: Final = 0.5  # that a busy ctrwatch tells after `--wait`
_STARTING_S: Final = (
    2.0  # from a runtime's record to its cgroup: 20 to 500 ms measured, on a busy host
)
_DOUBTS: Final = 256  # containers that are asked for one by one, in one audit
_PATH_CUT: Final = 1023  # bytes: a longer path may not be the whole one


class Runtimes(Protocol):
    """Who can be asked for lists, and for one container."""

    async def records(self) -> Listing: ...

    async def knows(self, subject: Subject) -> bool:
        """Whether a source has it, or can't be asked."""
        ...


class Rounds:
    """What it finds goes to *feed*. One round at a time."""

    def __init__(
        self,
        host: Host,
        sensor: Sensor | None,
        chain: Chain,
        feed: Callable[[Input], None],
        wait_s: float,
    ) -> None:
        """*wait_s*: so long a birth may wait until it is told."""
        self._host, self._sensor, self._chain, self._feed = host, sensor, chain, feed
        self.runtimes: Runtimes | None = None  # who lists containers, when they can be asked
        self._untold_ns = int((wait_s + _LATE_S) * 1e9)
        self._turn = asyncio.Lock()
        self._lost = 0  # of which a gap was told
        self._differ: dict[tuple[Finding, ContainerId], Found] = {}  # at the last audit

    async def begin(self, past: Past | None, *, existing: bool) -> None:
        """List what is there; with a *past* what is new, and what has gone since."""
        async with self._turn:
            if past is not None:
                # What was heard last, and not told yet, was not kept.
                past = past._replace(until_ns=past.until_ns - self._untold_ns)
                self._gap("restart", past.until_ns)
            gone = dict(past.living) if past is not None else {}
            births = {place: birth for birth, event in gone.items() for place in _places(event)}
            for item in await asyncio.to_thread(scan, self._host):
                known = [births.get((*key, item.container_id)) for key, _ in item.paths]
                birth = next(filter(None, known), None)
                unheard = past is not None and birth is None
                gone.pop(birth or "", None)
                quiet = not unheard and not existing
                if still_there(self._host, item):
                    self._feed(
                        msgspec.structs.replace(
                            item, unheard=unheard, quiet=quiet, birth=birth or ""
                        )
                    )
            for event in gone.values():
                self._feed(Ended(boot_ns=boot_clock_ns(), event=event))
        if past is not None and self.runtimes is not None:
            await self._remember(past, self.runtimes)
        self._chain.births = None

    async def after_loss(self, since_ns: int) -> None:
        """The kernel dropped raw events, the first of them after *since_ns* (wall clock)."""
        async with self._turn:
            await self._storm_is_over()
            found, vanished = await self._look()
            lost, self._lost = self._chain.lost - self._lost, self._chain.lost
            if lost:
                self._gap("lost", since_ns, lost)
            self._feed_all(found, vanished)

    async def audit(self) -> tuple[str, ...]:
        """
        The cgroup tree and the runtimes' lists against what was told.

        A sentence for each runtime that could not be asked for its list.
        """
        async with self._turn:
            found, vanished = await self._look()
            for item in found:
                self._feed(_in_tree("missed", item.container_id, item.paths[0][1]))
            for one in vanished:
                self._feed(_in_tree("end_missed", one.container_id, one.path))
            self._feed_all(found, vanished)
        if self.runtimes is None:
            return ()
        before, self._differ = self._differ, {}
        unavailable = await self._compare(self.runtimes)
        for key, difference in self._differ.items():
            if key not in before:  # what was found once is not found at every beat
                self._feed(difference)
        return unavailable

    async def _compare(self, runtimes: Runtimes) -> tuple[str, ...]:
        listing = await runtimes.records()
        await self._drained()
        living = self._chain.containers()
        announced = frozenset(one.container_id for one in living)
        now_ns = boot_clock_ns() + wall_offset_ns()
        for record in audit.missed(listing, announced, now_ns):
            self._note(_missed(record))
        told = ((one.serial, self._chain.last_told(one.serial)) for one in living)
        in_doubt = audit.doubts(listing, ((serial, event) for serial, event in told if event))
        for serial, event in in_doubt[:_DOUBTS]:
            subject = self._chain.subject(serial)
            if subject is None or await runtimes.knows(subject):
                continue
            if self._chain.subject(serial) is not None:  # it has not ended meanwhile
                self._note(
                    Found(
                        boot_ns=boot_clock_ns(),
                        finding="unknown_to_runtime",
                        source="runtimes",
                        container_id=ContainerId(event.container_id),
                        runtime=event.runtime,
                        name=event.container_name,
                        image=event.container_image,
                        path=event.cgroup.path,
                    )
                )
        return listing.unavailable

    async def _remember(self, past: Past, runtimes: Runtimes) -> None:
        """What was born and has ended while ctrwatch was away, as far as a runtime keeps it."""
        listing = await runtimes.records()
        until_ns = boot_clock_ns() + wall_offset_ns()
        before = frozenset(
            [ContainerId(event.container_id) for event in past.living.values()]
            + [ContainerId(container_id) for container_id in past.ended]
        )
        if audit.forgotten(listing, before | self._heard(), past.until_ns, until_ns):
            await asyncio.sleep(_STARTING_S)
        for record in audit.forgotten(listing, before | self._heard(), past.until_ns, until_ns):
            self._feed(_ended(record))

    def _heard(self) -> frozenset[ContainerId]:
        """Since the start, also what has ended by now: it is in no list of the living."""
        living = (one.container_id for one in self._chain.containers())
        return frozenset(living) | (self._chain.births or set())

    def _feed_all(self, found: Iterable[Listed], vanished: Iterable[Living]) -> None:
        for item in found:
            self._feed(msgspec.structs.replace(item, unheard=True))
        for one in vanished:
            self._feed(Vanished(boot_ns=boot_clock_ns(), cgroup=one.cgroups[0]))

    def _gap(self, reason: GapReason, since_ns: int, lost: int | None = None) -> None:
        now_ns = boot_clock_ns()
        until_ns = now_ns + wall_offset_ns()
        self._feed(
            Gap(boot_ns=now_ns, reason=reason, since_ns=since_ns, until_ns=until_ns, lost=lost)
        )

    def _note(self, found: Found) -> None:
        """A difference between the lists and what was told."""
        self._differ[found.finding, found.container_id] = found

    async def _look(self) -> tuple[list[Listed], list[Living]]:
        """Who is there and was not heard of, and who was and is not any more."""
        living = self._chain.containers()
        listed = await asyncio.to_thread(scan, self._host)
        away = await asyncio.to_thread(lambda: [one for one in living if self._is_gone(one)])
        await self._drained()
        unknown = (item for item in listed if not self._chain.knows(item))
        found = _bounded(item for item in unknown if still_there(self._host, item))
        still = {one.serial for one in self._chain.containers()}
        return found, [one for one in away if one.serial in still]

    def _is_gone(self, one: Living) -> bool:
        """None of its directories is there. Not where that can't be told."""
        if len(os.fsencode(one.path)) >= _PATH_CUT:
            return False
        seen = [key for key in one.cgroups if key.hierarchy_id in self._host.hierarchies]
        statuses = ((key, self._host.status(key, one.path)) for key in seen)
        there = any(status and status.st_ino == key.cgroup_id for key, status in statuses)
        return bool(seen) and not there

    async def _storm_is_over(self) -> None:
        until_s, lost = time.monotonic() + _STORM_S, -1
        while self._sensor is not None and lost != self._sensor.lost():
            lost = self._sensor.lost()
            if time.monotonic() > until_s:
                break
            await asyncio.sleep(_QUIET_S)

    async def _drained(self) -> None:
        """What the sensor had to say of the time before has been fed."""
        until_s = time.monotonic() + _DRAIN_S
        while self._sensor is not None and not self._sensor.idle():
            if time.monotonic() > until_s:
                break
            await asyncio.sleep(_BEAT_S)


def _missed(record: Record) -> Found:
    """It runs, as a runtime lists it, and was not told."""
    return Found(
        boot_ns=boot_clock_ns(),
        finding="missed",
        source=record.source,
        container_id=record.container_id,
        runtime=record.runtime,
        name=record.name,
        image=record.image,
    )


def _ended(record: Record) -> Listed:
    """It was born and has ended, both unheard."""
    return Listed(
        boot_ns=boot_clock_ns(),
        container_id=record.container_id,
        paths=(),
        identity=None,
        leads=Leads(),
        uid=record.uid,
        unheard=True,
        source=record.source,
        runtime=record.runtime,
        created_ns=record.created_ns,
    )


def _in_tree(finding: Finding, container_id: ContainerId, path: str) -> Found:
    """What the cgroup tree shows: it is put right at once, so it is found once."""
    return Found(
        boot_ns=boot_clock_ns(),
        finding=finding,
        source="scan",
        container_id=container_id,
        path=path,
    )


def _bounded(items: Iterable[Listed]) -> list[Listed]:
    """Of each user but root the first hundred: who floods (core/flood.py) is not found one by one."""
    number: Counter[int] = Counter()
    found = []
    for item in items:
        number[item.uid] += 1
        if item.uid == 0 or number[item.uid] <= _SINGLY:
            found.append(item)
    return found


def _places(event: ContainerEvent) -> Iterator[tuple[int | None, int | None, str]]:
    yield event.cgroup.hierarchy_id, event.cgroup.id, event.container_id
