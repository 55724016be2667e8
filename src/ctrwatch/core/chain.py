"""
The pure middle of ctrwatch: whatever happened goes in, what to do about it comes out.

Every input is a value, and nothing else moves the chain: a journal of its inputs
(`--record`) gives the same events again (`ctrwatch replay`), on any machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from ctrwatch.core import flood
from ctrwatch.core.changes import Begun, Born, Change, Gone, Living, Look, Placed, Started
from ctrwatch.core.hostuse import HostSampled, host_usage
from ctrwatch.core.ledger import Exited, Ledger, Sampled
from ctrwatch.core.lifecycle import Lifecycle
from ctrwatch.core.report import Found, Gap, Report, audit, watch_gap
from ctrwatch.core.story import Alarm, Effect as Told, Stories, Tell
from ctrwatch.event import ContainerEvent, Flood
from ctrwatch.model import Answer, CgroupKey, ContainerId, Listed, RawEvent, Subject, Task

__all__ = (
    "JOURNAL_VERSION",
    "Back",
    "Chain",
    "Clock",
    "Effect",
    "Ended",
    "Ending",
    "Header",
    "Input",
    "Looked",
    "Lost",
    "Overdue",
    "Patience",
    "Reply",
    "Report",
    "Vanished",
)

JOURNAL_VERSION: Final = 1
_NEVER_NS: Final = 1 << 63  # later than any time
_Age = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
_BIRTHS: Final = ("container_create", "existing_container")


class Header(msgspec.Struct, frozen=True, kw_only=True, tag="header"):
    """What the chain is told of the host before anything happens."""

    version: int = JOURNAL_VERSION
    host: str
    boot_id: str
    wall_offset_ns: int
    wait_ns: int
    unified: bool
    hierarchies: frozenset[int] | None = None  # the mounted ones; old journals don't have them
    tells_init: bool = False  # the sensor has raw events of first processes
    usage_at_ns: tuple[_Age, ...] | None = None  # ages at which use is told; None: it is not read


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag="reply"):
    """What a source answered."""

    boot_ns: int
    serial: int
    source: str
    answer: Answer


class Overdue(msgspec.Struct, frozen=True, kw_only=True, tag="overdue"):
    """The time that an `Alarm` asked for has come."""

    boot_ns: int
    serial: int


class Looked(msgspec.Struct, frozen=True, kw_only=True, tag="looked"):
    """The answer to a `Look`: whose child had entered the cgroup. None: it has ended."""

    cgroup: CgroupKey
    caller: Task | None


class Back(msgspec.Struct, frozen=True, kw_only=True, tag="back"):
    """A daemon of that source is there that was not, or did not answer, before."""

    boot_ns: int
    source: str


class Lost(msgspec.Struct, frozen=True, kw_only=True, tag="lost"):
    """The sensor has dropped that many raw events since it was attached."""

    boot_ns: int
    total: int


class Clock(msgspec.Struct, frozen=True, kw_only=True, tag="clock"):
    """Somebody set the time of day."""

    wall_offset_ns: int


class Patience(msgspec.Struct, frozen=True, kw_only=True, tag="patience"):
    """From now on an incomplete birth waits that long, one that waits already included."""

    boot_ns: int
    wait_ns: int


class Ending(msgspec.Struct, frozen=True, kw_only=True, tag="ending"):
    """ctrwatch ends: what is not told yet is told now, as it is."""

    boot_ns: int


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """A container that an earlier ctrwatch told of (*event*) was gone when this one looked."""

    boot_ns: int
    event: ContainerEvent


class Vanished(msgspec.Struct, frozen=True, kw_only=True, tag="vanished"):
    """A living container's directory is not there any more, and nobody said so."""

    boot_ns: int
    cgroup: CgroupKey


Input = (
    RawEvent
    | Listed
    | Looked
    | Reply
    | Overdue
    | Back
    | Lost
    | Clock
    | Patience
    | Ended
    | Vanished
    | Gap
    | Found
    | Sampled
    | Exited
    | HostSampled
    | Ending
)


Effect = Told | Look | Report | Born | Placed | Begun | Started | Gone


class Chain:
    """
    Lifecycle and stories, joined; `told` counts events by name and births by status.

    Births beyond a user's budget (core/flood.py) get no story, and are told together.
    """

    def __init__(self, header: Header, *, readings: bool = True) -> None:
        """*readings*: give each look away; not, where nobody follows them."""
        self._header = header
        self._floods = flood.Floods()
        self._flood_ns: int | None = None  # when the alarm rings that was asked for
        self._lifecycle = Lifecycle(header.hierarchies)
        self._stories = Stories(
            host=header.host,
            boot_id=header.boot_id,
            wall_offset_ns=header.wall_offset_ns,
            wait_ns=header.wait_ns,
            unified=header.unified,
            tells_init=header.tells_init,
            ledger=Ledger(header.usage_at_ns) if header.usage_at_ns is not None else None,
            readings=readings,
        )
        self._host_look: HostSampled | None = None  # the last one
        self.told: Counter[str] = Counter()
        # Ids of all births, while somebody compares them with what runtimes list: seconds.
        self.births: set[ContainerId] | None = None

    @property
    def living(self) -> int:
        return len(self._lifecycle)

    @property
    def untold(self) -> int:
        """Births that are not told yet."""
        return self._stories.untold

    @property
    def lost(self) -> int:
        return self._stories.lost

    @property
    def forgotten(self) -> int:
        """Cgroups that could have become a container's, and were too many to be remembered."""
        return self._lifecycle.forgotten

    def containers(self) -> list[Living]:
        """All that live, oldest first."""
        return self._lifecycle.living()

    def living_at(self, cgroup: CgroupKey) -> Living | None:
        """The container that has that directory; None: nobody, or it has ended."""
        return self._lifecycle.living_at(cgroup)

    def knows(self, found: Listed) -> bool:
        """Whether one of its directories is a living container's."""
        return self._lifecycle.knows(found)

    def places(self, cgroup: CgroupKey) -> tuple[CgroupKey, ...]:
        """All directories of the living container that has this one; none: nobody's."""
        return self._lifecycle.places(cgroup)

    def subject(self, serial: int) -> Subject | None:
        """Of a living container, for who asks a source about it; None: it has ended."""
        return self._stories.subject(serial)

    def last_told(self, serial: int) -> ContainerEvent | None:
        """Of a living container; None: nothing yet."""
        return self._stories.last_told(serial)

    def feed(self, item: Input) -> Sequence[Effect]:
        effects = self._feed(item)
        for effect in effects:
            if isinstance(effect, Tell | Report):
                self.told[effect.event.event] += 1
            if isinstance(effect, Report) and isinstance(effect.event, Flood):
                self.told["flooded"] += effect.event.count
            if isinstance(effect, Tell) and effect.event.event in _BIRTHS:
                self.told[effect.event.evidence.status] += 1
        return effects

    def _feed(self, item: Input) -> Sequence[Effect]:  # noqa: C901, PLR0911, PLR0912 - one for each input
        stories = self._stories
        match item:
            case RawEvent():
                stories.lost = max(stories.lost, item.lost)
                return self._changed(self._lifecycle.feed(item))
            case Listed():
                return self._changed(self._lifecycle.listed(item))
            case Looked():
                return self._changed(self._lifecycle.looked(item.cgroup, item.caller))
            case Reply():
                self._floods.answered(item.serial, item.source, item.answer)
                return stories.answered(item.serial, item.source, item.answer, item.boot_ns)
            case Overdue():
                return self._overdue(item)
            case Back():
                return stories.back(item.source)
            case Lost():
                stories.lost = max(stories.lost, item.total)
            case Clock():
                stories.wall_offset_ns = item.wall_offset_ns
            case Patience():
                return stories.have_patience(item.wait_ns, item.boot_ns)
            case Ended():
                return stories.ended(item.event, item.boot_ns)
            case Vanished():
                return self._changed(self._lifecycle.vanished(item.cgroup, item.boot_ns))
            case Gap():
                now_ns = item.boot_ns + stories.wall_offset_ns
                return [Report(watch_gap(item, self._header.host, now_ns))]
            case Found():
                now_ns = item.boot_ns + stories.wall_offset_ns
                return [Report(audit(item, self._header.host, now_ns))]
            case Sampled() | Exited():
                return stories.used(item)
            case HostSampled():
                return [self._host_used(item)]
            case Ending():
                return [*stories.finish(item.boot_ns), *self._floods_until(_NEVER_NS)]
        return []

    def _host_used(self, item: HostSampled) -> Report:
        before, self._host_look = self._host_look, item
        header, offset_ns = self._header, self._stories.wall_offset_ns
        return Report(host_usage(before, item, header.host, header.boot_id, offset_ns))

    def _changed(self, changes: list[Change]) -> Sequence[Effect]:
        effects: list[Effect] = []
        dismissed = 0
        for change in changes:
            if isinstance(change, Look):
                effects.append(change)
            elif isinstance(change, Born) and change.listed is not None and change.listed.quiet:
                continue  # without a story nothing is told of it
            elif isinstance(change, Born) and not self._floods.admits(change):
                dismissed = change.serial
                self._lifecycle.dismiss(change.cgroup)
                effects += self._flood_alarm()
            elif change.serial != dismissed:
                if self.births is not None and isinstance(change, Born):
                    self.births.add(change.identity.container_id)
                effects += self._stories.changed(change)
                if self._header.usage_at_ns is not None and isinstance(
                    change, Born | Placed | Begun | Started | Gone
                ):
                    effects.append(change)  # for who reads what it uses
        return effects

    # --- floods ---------------------------------------------------------------------------

    def _overdue(self, item: Overdue) -> Sequence[Effect]:
        if item.serial == flood.SERIAL:
            return [*self._floods_until(item.boot_ns), *self._flood_alarm()]
        return self._stories.overdue(item.serial, item.boot_ns)

    def _floods_until(self, now_ns: int) -> list[Report]:
        self._flood_ns = None
        host, boot_id = self._header.host, self._header.boot_id
        offset_ns = self._stories.wall_offset_ns
        excesses = self._floods.due(now_ns)
        return [Report(flood.flood(each, host, boot_id, offset_ns)) for each in excesses]

    def _flood_alarm(self) -> list[Alarm]:
        """For the first window to end, unless it is set."""
        at_ns = self._floods.next_ns()
        if at_ns is None or at_ns == self._flood_ns:
            return []
        self._flood_ns = at_ns
        return [Alarm(flood.SERIAL, at_ns)]
