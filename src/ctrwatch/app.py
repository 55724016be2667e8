"""
The way of the data, from the kernel to whoever listens. The first file to read.

    kernel ─▶ sensor ─raw events─▶ lifecycle ─births, deaths─▶ stories ─events─▶ listener
                                       └───────── Chain ──────────┘ │  ▲
                                                          questions ▼  │ answers
                                                                 enrich: evidence

`Watch` builds this chain in this order. The sensor is attached first and the containers
that are there already are listed after, so that no birth falls between. Everything
that happens is one `Input` of the pure chain (core/chain.py), fed by one event loop:
no locks, and no question is asked while anything else waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from ctrwatch.config import Settings
from ctrwatch.core.chain import (
    Back,
    Chain,
    Clock,
    Effect,
    Ending,
    Header,
    Input,
    Looked,
    Lost,
    Overdue,
    Patience,
    Reply,
    Report,
)
from ctrwatch.core.changes import Begun, Born, Gone, Look, Placed, Started
from ctrwatch.core.ledger import Reading
from ctrwatch.core.render import said_of_flood
from ctrwatch.core.steps import INIT
from ctrwatch.core.story import Alarm, Ask, Tell
from ctrwatch.core.tally import Vitals
from ctrwatch.enrich import DEADLINE_S, Enricher
from ctrwatch.errors import HostError
from ctrwatch.event import ContainerEvent, Flood
from ctrwatch.evidence import Evidence
from ctrwatch.meter import Meter
from ctrwatch.model import Answer, CgroupKey, Found, RawEvent
from ctrwatch.outputs.state import Past
from ctrwatch.ports import Sensor
from ctrwatch.rounds import Rounds
from ctrwatch.sensor.ebpf import EbpfSensor
from ctrwatch.sensor.fanotify import FanotifySensor
from ctrwatch.sensor.host import Host, boot_clock_ns, wall_offset_ns
from ctrwatch.sensor.journal import JournalWriter

__all__ = ("Counts", "Heard", "Watch", "open_sensor")

log = logging.getLogger(__name__)

Heard = Tell | Report | RawEvent | Reading
Listener = Callable[[Heard], None]

_CLOCK_STEP_NS: Final = 1_000_000  # less is the clock's own drift


class Counts(NamedTuple):
    """What was told, for the last line."""

    seen: int
    complete: int
    partial: int
    unverified: int
    lost: int
    flooded: int  # births that were told together
    forgotten: int  # cgroups that were too many to see whether they become containers


class Watch:
    """
    One watch of this host, at work while `run` runs.

    *listener* is called for each event, in order, from the event loop; it must not
    block. Without a *sensor* only what is there already is told.
    """

    def __init__(
        self,
        settings: Settings,
        host: Host,
        sensor: Sensor | None,
        listener: Listener,
        past: Past | None = None,
        *,
        readings: bool = True,
    ) -> None:
        """
        *past*: what an earlier ctrwatch announced, if that is known. *readings*: the listener
        follows what each container uses, look by look.
        """
        self._settings, self._listener, self._past = settings, listener, past
        self.host, self._sensor = host, sensor
        self._offset_ns = wall_offset_ns()
        header = Header(
            host=self.host.name,
            boot_id=self.host.boot_id,
            wall_offset_ns=self._offset_ns,
            wait_ns=int(settings.wait_s * 1e9),
            unified=self.host.has_unified,
            hierarchies=frozenset(self.host.hierarchies),
            tells_init=sensor is not None and sensor.tells_init,
            usage_at_ns=settings.usage_at_ns if settings.usage else None,
        )
        self._chain = Chain(header, readings=readings)
        if past is not None:
            self._chain.births = set()
        self._ask: Callable[[Ask | Look], Any] = lambda _: None
        self._at_work: tuple[Enricher, Evidence] | None = None
        self._journal: JournalWriter | None = None
        if settings.record is not None:
            self._journal = JournalWriter(settings.record, header)
        self._rounds = Rounds(host, sensor, self._chain, self.feed, settings.wait_s)
        self._heard_ns = boot_clock_ns()  # of the last raw event, or of the beginning
        self._meter: Meter | None = None  # while it runs, with `--usage`
        self._listed = False
        self.caught_up = asyncio.Event()  # the containers that were there have been told

    async def run(self) -> None:
        """Watch until cancelled; then tell what is not told yet, and leave nothing behind."""

        def back(source: str) -> None:
            enricher.back(source)
            self.feed(Back(boot_ns=boot_clock_ns(), source=source))

        evidence = Evidence(self.host.directory, self._settings.sockets, back)
        enricher = Enricher(evidence.sources, self._answered)
        self._at_work = enricher, evidence
        if self._settings.usage:
            self._meter = Meter(
                self.host,
                self._chain,
                self.feed,
                settled_ns=int(self._settings.usage_every_s * 1e9),
                ages_ns=self._settings.usage_at_ns,
            )
        try:
            async with asyncio.TaskGroup() as tasks:
                self._ask = lambda ask: tasks.create_task(
                    self._look(evidence, ask) if isinstance(ask, Look) else enricher.ask(ask)
                )
                try:
                    if self._sensor is not None:
                        tasks.create_task(self._hear(self._sensor, tasks), name="sensor")
                        tasks.create_task(self._audit(), name="audit")
                    await evidence.prepare()
                    self._rounds.runtimes = evidence
                    tasks.create_task(self._list(), name="scan")
                    await asyncio.Event().wait()  # until cancelled, or a task fails
                finally:
                    self._ask = lambda _: None  # nobody is asked any more
        finally:
            self._at_work = None
            if self._meter is not None:
                self._meter.close()
            self.feed(Ending(boot_ns=boot_clock_ns()))
            if self._sensor is not None:
                self._sensor.close()
            await evidence.close()
            if self._journal is not None:
                self._journal.close()

    async def audit(self) -> tuple[str, ...]:
        """Compare the host with what was told, now; see `Rounds.audit`."""
        return await self._rounds.audit()

    def reload(self, settings: Settings) -> None:
        """Take the wait and the sockets of *settings*; the rest of them takes a new watch."""
        if settings.wait_s != self._settings.wait_s:
            self.feed(Patience(boot_ns=boot_clock_ns(), wait_ns=int(settings.wait_s * 1e9)))
        self._settings = msgspec.structs.replace(
            self._settings, wait_s=settings.wait_s, sockets=settings.sockets
        )
        if self._at_work is not None:
            self._at_work[1].ask_at(settings.sockets)

    @property
    def counts(self) -> Counts:
        told = self._chain.told
        return Counts(
            seen=told["container_create"] + told["existing_container"],
            complete=told["complete"],
            partial=told["partial"],
            unverified=told["unverified"],
            lost=self._chain.lost,
            flooded=told["flooded"],
            forgotten=self._chain.forgotten,
        )

    @property
    def vitals(self) -> Vitals:
        """How it is now, for who asks: nothing is kept for it but what counts itself."""
        enricher, evidence = self._at_work or (None, None)
        return Vitals(
            attached=self._at_work is not None and self._sensor is not None,
            listed=self._listed,
            living=self._chain.living,
            untold=self._chain.untold,
            losses={
                "kernel": self._chain.lost,
                "unreadable": self._sensor.unreadable if self._sensor is not None else 0,
                "forgotten": self._chain.forgotten,
                "journal": self._journal.dropped if self._journal is not None else 0,
            },
            asked=enricher.asked if enricher is not None else {},
            daemons=evidence.states() if evidence is not None else {},
        )

    def places(self, cgroup: CgroupKey) -> tuple[CgroupKey, ...]:
        """All directories of the living container that has this one; none: nobody's."""
        return self._chain.places(cgroup)

    def last_told(self, serial: int) -> ContainerEvent | None:
        """Of a living container; None: it has ended."""
        return self._chain.last_told(serial)

    @property
    def meter(self) -> Meter | None:
        """Who looks at what containers use; None: it does not run, or `usage` is not set."""
        return self._meter

    def rouse(self, serial: int) -> None:
        """Look at what that container uses each second, for the next ten."""
        if self._meter is not None:
            self._meter.rouse(serial)

    @property
    def wall_offset_ns(self) -> int:
        """What makes a time of the kernel's boot clock one of the day, as events have it."""
        return self._offset_ns

    # --- inputs -----------------------------------------------------------------------

    async def _hear(self, sensor: Sensor, tasks: asyncio.TaskGroup) -> None:
        told = 0
        looking: asyncio.Task[None] | None = None
        async for batch in sensor.batches():
            self._mind_the_clock()
            since_ns = self._heard_ns + self._offset_ns
            for event in batch:
                self.feed(event)
            self._heard_ns = batch[-1].boot_ns
            if (lost := sensor.lost()) > self._chain.lost:
                self.feed(Lost(boot_ns=boot_clock_ns(), total=lost))
            if self._chain.lost > told and (looking is None or looking.done()):
                told = self._chain.lost
                log.warning("the kernel dropped %d raw events so far; looking around", told)
                looking = tasks.create_task(self._rounds.after_loss(since_ns), name="after a loss")

    async def _list(self) -> None:
        await self._rounds.begin(self._past, existing=self._settings.existing)
        self._past = None
        self._listed = True
        self._look_around()

    async def _audit(self) -> None:
        await self.caught_up.wait()
        while self._settings.audit_s:
            await asyncio.sleep(self._settings.audit_s)
            await self._rounds.audit()

    def _answered(self, serial: int, source: str, answer: Answer) -> None:
        self.feed(Reply(boot_ns=boot_clock_ns(), serial=serial, source=source, answer=answer))
        if self._meter is not None and source == INIT.source and isinstance(answer, Found):
            self._meter.first(serial, answer.facts.init_pid)

    async def _look(self, evidence: Evidence, look: Look) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                caller = await evidence.caller(look.task, look.uid)
        except TimeoutError:
            caller = None  # its command line is in memory that hangs
        self.feed(Looked(cgroup=look.cgroup, caller=caller))

    def _overdue(self, serial: int) -> None:
        self.feed(Overdue(boot_ns=boot_clock_ns(), serial=serial))

    def _mind_the_clock(self) -> None:
        offset_ns = wall_offset_ns()
        if abs(offset_ns - self._offset_ns) > _CLOCK_STEP_NS:
            self._offset_ns = offset_ns
            self.feed(Clock(wall_offset_ns=offset_ns))

    # --- the chain --------------------------------------------------------------------

    def feed(self, item: Input) -> None:
        if self._journal is not None:
            self._journal.write(item)
        if self._settings.raw and isinstance(item, RawEvent):
            self._listener(item)
        for effect in self._chain.feed(item):
            self._do(effect)
        self._look_around()

    def _look_around(self) -> None:
        if self._listed and not self._chain.untold:
            self.caught_up.set()

    def _do(self, effect: Effect) -> None:
        match effect:
            case Tell() | Report():
                if isinstance(effect.event, Flood):
                    log.warning("%s", said_of_flood(effect.event))
                self._listener(effect)
            case Reading():
                self._listener(effect)
            case Ask() | Look():
                self._ask(effect)
            case Born() | Placed() | Begun() | Started() | Gone():
                if self._meter is not None:
                    self._meter.heard(effect)
            case Alarm(serial, boot_ns):
                delay_s = max(0, boot_ns - boot_clock_ns()) / 1e9
                asyncio.get_running_loop().call_later(delay_s, self._overdue, serial)


def open_sensor(host: Host, settings: Settings) -> Sensor:
    """
    Attach the sensor: eBPF, or, if none is asked for, fanotify where that can't run.

    Raises HostError where it can't run, with the way out.
    """
    if settings.sensor == "ebpf":
        return EbpfSensor(host)
    refusal: HostError | None = None
    if settings.sensor == "auto":
        try:
            return EbpfSensor(host)
        except HostError as error:
            refusal = error
    try:
        sensor = FanotifySensor(host)
    except HostError as error:
        if refusal is None:
            raise
        raise HostError(f"no sensor can run. eBPF: {refusal}. fanotify: {error}") from None
    if refusal is not None:
        log.warning("watching by fanotify, for eBPF can't run: %s", refusal)
    if sensor.without:
        log.warning("there will be no container_start: %s", sensor.without)
    return sensor
