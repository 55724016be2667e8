"""
Births and evidence to container events: whom to ask next, when to tell, in what order.

Pure: changes, answers and alarms in; questions, alarms and events out. It holds no
clock, so a recorded stream gives the same events again. The laws, which
tests/unit/test_story.py holds for any order of inputs:

* `container_create` leaves once: when it is complete, or when `wait_ns` is over.
* Of one container create is the first and remove the last, however short its life;
  between them comes one start, and updates as they are learnt.
* One question at a time for each container and source, asked only for what is missing.
* Every empty field of a told event has a reason.
* An untold story has an alarm to come.

A complete event waits a little for what comes a moment after the birth: the directory
in the unified hierarchy (on hybrid hosts the last of a dozen), the container's first
process (the OCI runtime forks it when the cgroups are done), and the last word on its
image. Before the first task has entered nothing can run in the container: the wait is short only then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from ctrwatch.core import changes
from ctrwatch.core.describe import describe, rfc3339
from ctrwatch.core.ids import birth_of, stable_id
from ctrwatch.core.ledger import Exited, Ledger, Reading, Sampled
from ctrwatch.core.questions import INIT_TOLD_NS, Ask, asked_again, questions
from ctrwatch.core.reasons import answers, may_tell, reasons
from ctrwatch.core.report import Report
from ctrwatch.core.shelf import Shelf, Story
from ctrwatch.core.steps import LEADS_ONLY
from ctrwatch.event import ContainerEvent, EventName, Status
from ctrwatch.model import (
    NOWHERE,
    Answer,
    Facts,
    Found,
    Missing,
    NotFound,
    Subject,
    Task,
)

__all__ = ("Alarm", "Ask", "Effect", "Stories", "Tell")

_MS: Final = 1_000_000
_ENTER_NS: Final = 100 * _MS  # for the first task to enter: 0.1 to 20 ms measured, idle and busy
_SETTLE_NS: Final = 9 * _MS  # after that: 2 to 8 ms measured, and never less than 12 until the
# container's first instruction
_LISTED_NS: Final = 500 * _MS  # one that is there already is not urgent; a question takes no longer


class Alarm(NamedTuple):
    """Call `Stories.overdue(serial, …)` at that time."""

    serial: int
    boot_ns: int


class Tell(NamedTuple):
    event: ContainerEvent
    creator: Task | None  # the whole of it, for formats that want more than the event has


Effect = Ask | Alarm | Tell | Report | Reading


class Stories:
    """The stories of all containers that are being told, or live."""

    def __init__(
        self,
        *,
        host: str,
        boot_id: str,
        wall_offset_ns: int,
        wait_ns: int,
        unified: bool,
        tells_init: bool = False,
        ledger: Ledger | None = None,
        readings: bool = True,
        shelf: Shelf | None = None,
    ) -> None:
        """
        *unified*: the host has the unified hierarchy, so a container will have it too.
        *tells_init*: first processes are told of (`changes.Begun`) and need not be looked for.
        *ledger*: where what containers use is kept; None: it is not read. *readings*: somebody
        follows each look.
        """
        self._host, self._boot_id, self._unified = host, boot_id, unified
        self.wall_offset_ns, self._wait_ns = wall_offset_ns, wait_ns
        self._patience_ns = INIT_TOLD_NS if tells_init else 0
        self._readings = readings
        self._shelf, self._ledger = shelf if shelf is not None else Shelf(), ledger
        self._hopes: dict[str, set[int]] = {}  # source: stories at rest that it may yet add to
        self.untold = 0
        self.lost = 0  # raw events dropped so far, as the sensor counts
        self._lost_told = 0

    def __len__(self) -> int:
        return len(self._shelf)

    # --- inputs ---------------------------------------------------------------------

    def changed(self, change: changes.Told) -> list[Effect]:
        effects = (
            self._begin(change) if isinstance(change, changes.Born) else self._happened(change)
        )
        self._rest(change.serial)
        return effects

    def answered(self, serial: int, source: str, answer: Answer, now_ns: int) -> list[Effect]:
        story = self._shelf.take(serial)
        if story is None:
            return []  # told and gone while the source was thinking
        asked = story.asked.get(source)
        if asked is None or not asked.pending:
            return []  # nobody asked: a journal that was changed by hand
        asked.pending, asked.last = False, answer
        effects: list[Effect] = []
        if isinstance(answer, Found):
            story.verified = story.verified or source not in LEADS_ONLY
            story.known.add(source, answer.facts)
            effects += self._update(story, now_ns)
        effects += self._go_on(story, now_ns)
        self._rest(serial)
        return effects

    def overdue(self, serial: int, now_ns: int) -> list[Effect]:
        if serial not in self._shelf.in_hand:
            return []  # it was told, and rests or has ended
        story = self._shelf.in_hand[serial]
        if story.told is not None:
            return []
        effects = self._go_on(story, now_ns)
        effects = effects if story.told is not None else [*effects, self._alarm(story, now_ns)]
        self._rest(serial)
        return effects

    def back(self, source: str) -> list[Effect]:
        """Ask *source* again for each container of which it did not tell, however old."""
        effects: list[Effect] = []
        for serial in sorted({*self._hopes.pop(source, ()), *self._shelf.in_hand}):
            story = self._shelf.take(serial)
            ask = asked_again(story, source) if story is not None else None
            if ask is not None:
                effects.append(ask)
            self._rest(serial)
        return effects

    def used(self, item: Sampled | Exited) -> list[Effect]:
        """What a container uses, or how its first process ended."""
        if self._ledger is None:
            return []
        due = self._ledger.note(item)
        look = item if self._readings and isinstance(item, Sampled) else None
        # A story is not unpacked for a look that nobody follows.
        told = self.last_told(item.serial) if due or look is not None else None
        if told is None:
            return []  # its birth comes first
        effects = self._use(item.serial, told) if due else []
        reading = self._ledger.reading(look, told) if look is not None else None
        return [reading, *effects] if reading is not None else effects

    def _use(self, serial: int, told: ContainerEvent, *, gone: bool = False) -> list[Effect]:
        if self._ledger is None:
            return []
        due = self._ledger.due(serial, told, self.wall_offset_ns, gone=gone)
        return [Report(event) for event in due]

    def have_patience(self, wait_ns: int, now_ns: int) -> list[Effect]:
        """Wait that long; the alarms of those that wait were set for another time."""
        self._wait_ns = wait_ns
        untold = [story for story in self._shelf.in_hand.values() if story.told is None]
        return [self._alarm(story, now_ns) for story in untold]

    def finish(self, now_ns: int) -> list[Effect]:
        """Tell what is not told yet, as it is."""
        untold = [story for story in self._shelf.in_hand.values() if story.told is None]
        effects = [effect for story in untold for effect in self._tell(story, now_ns)]
        for story in untold:
            if story.gone is not None:
                self._end(story)
        return effects

    def ended(self, event: ContainerEvent, now_ns: int) -> list[Effect]:
        """One that was told by an earlier ctrwatch has gone since."""
        gone = msgspec.structs.replace(
            event,
            event="container_remove",
            id=birth_of(event.id) + _SUFFIXES["container_remove"],
            time=rfc3339(now_ns + self.wall_offset_ns),
            lost_before=self.lost - self._lost_told,
            changed=(),
        )
        self._lost_told = self.lost
        return [Tell(gone, None)]

    def subject(self, serial: int) -> Subject | None:
        """Of a living container; None: it has ended."""
        story = self._shelf.look(serial)
        return story.subject() if story is not None else None

    def last_told(self, serial: int) -> ContainerEvent | None:
        """What was told of it last; None: nothing yet, or it has ended."""
        story = self._shelf.look(serial)
        return story.told if story is not None else None

    def _happened(self, change: changes.Told) -> list[Effect]:
        story = self._shelf.take(change.serial)
        if story is None:
            return []  # of one that nobody wants to hear of
        match change:
            case changes.Placed():
                story.cgroup, story.path = change.cgroup, change.path
                return [
                    *self._update(story, change.boot_ns),
                    *self._go_on(story, change.boot_ns),
                ]
            case changes.Entered():
                story.init = change.task
                story.settled_ns = change.boot_ns + _SETTLE_NS
                story.seek_ns = change.boot_ns + self._patience_ns
                effects = self._go_on(story, change.boot_ns)
                return effects if story.told else [self._alarm(story, change.boot_ns), *effects]
            case changes.Begun():
                story.known.add("kernel", Facts(init_pid=change.task.pid))
            case changes.Started():
                story.started = change
                story.known.add("kernel", Facts(init_pid=change.task.pid))
            case changes.Gone():
                story.gone = change
            case changes.Born():
                pass  # `_begin` has it
        return self._go_on(story, change.boot_ns)

    def _rest(self, serial: int) -> None:
        """Put it back; who may yet add to the one that is packed for it is remembered."""
        if (packed := self._shelf.rest(serial)) is None:
            return
        for source in packed.unanswered():
            if may_tell(source, packed):
                self._hopes.setdefault(source, set()).add(packed.born.serial)

    def _end(self, story: Story) -> None:
        self._shelf.remove(story.born.serial)
        if self._ledger is not None:
            self._ledger.close(story.born.serial)
        for hopeful in self._hopes.values():
            hopeful.discard(story.born.serial)

    # --- the course of a story --------------------------------------------------------

    def _begin(self, born: changes.Born) -> list[Effect]:
        story = Story(
            born=born,
            cgroup=born.cgroup,
            path=born.path,
            settled_ns=born.boot_ns + (_LISTED_NS if born.listed else _ENTER_NS),
            born_offset_ns=self.wall_offset_ns,
            # Of one that was there, another ctrwatch may have told updates under the same id.
            updates=born.listed.boot_ns // _MS if born.listed is not None else 0,
        )
        self._shelf.add(born.serial, story)
        if self._ledger is not None:
            self._ledger.open(born)
        self.untold += 1
        if born.identity.pod_uid:
            story.known.add("path", Facts(pod_uid=born.identity.pod_uid))
        if (listed := born.listed) is not None:
            facts = Facts(
                runtime=listed.runtime,
                created_ns=listed.created_ns,
                init_pid=listed.init_pid,
                leads=listed.leads,
            )
            story.known.add(listed.source, facts)
            story.verified = listed.runtime is not None
        effects = self._go_on(story, born.boot_ns)
        return effects if story.told is not None else [self._alarm(story, born.boot_ns), *effects]

    def _go_on(self, story: Story, now_ns: int) -> list[Effect]:
        if story.told is None and self._ready(story, now_ns):
            return [*self._tell(story, now_ns), *self._end_or_ask(story, now_ns)]
        if story.told is not None:
            return [*self._follow(story, now_ns), *self._end_or_ask(story, now_ns)]
        return list(questions(story, now_ns))

    def _alarm(self, story: Story, now_ns: int) -> Alarm:
        """The next moment at which time alone decides; the same again if it rang early."""
        late_ns = story.born.boot_ns + self._wait_ns
        moments = [story.settled_ns]
        if story.known.facts.init_pid is None:
            moments.append(story.seek_ns)
        return Alarm(story.born.serial, min([at for at in moments if at > now_ns], default=late_ns))

    def _ready(self, story: Story, now_ns: int) -> bool:
        if now_ns >= story.born.boot_ns + self._wait_ns:
            return True
        if missing := story.missing():
            # Who does not know one that has gone will not: records come before the cgroup.
            said = answers(story, missing)
            return story.gone is not None and all(isinstance(a, Found | NotFound) for a in said)
        if story.started is not None or story.gone is not None or now_ns >= story.settled_ns:
            return True
        placed = story.cgroup.hierarchy_id == 0 or not self._unified
        settled = placed and story.known.facts.init_pid is not None
        if not settled and story.born.listed is None:
            return False
        return None not in answers(story, story.open())

    def _end_or_ask(self, story: Story, now_ns: int) -> list[Effect]:
        """After the telling: a story ends with its container, or goes on being asked about."""
        if story.gone is not None:
            self._end(story)
            return []
        return list(questions(story, now_ns))

    # --- events -----------------------------------------------------------------------

    def _tell(self, story: Story, now_ns: int) -> list[Effect]:
        listed = story.born.listed
        was_there = listed is not None and not listed.unheard
        name: EventName = "existing_container" if was_there else "container_create"
        self.untold -= 1
        story.birth_id = _birth_id(self._boot_id, story)
        story.told = self._describe(story, name, story.born.boot_ns, now_ns)
        return [self._say(story, story.told), *self._follow(story, now_ns)]

    def _follow(self, story: Story, now_ns: int) -> list[Effect]:
        """What happened after the create, in order."""
        effects: list[Effect] = []
        if story.started is not None and not story.start_told:
            story.start_told = True
            event = self._describe(story, "container_start", story.started.boot_ns, now_ns)
            effects.append(self._say(story, event))
        if story.told is not None:
            effects += self._use(story.born.serial, story.told, gone=story.gone is not None)
        if story.gone is not None:
            event = self._describe(story, "container_remove", story.gone.boot_ns, now_ns)
            if self._ledger is not None:
                bill = self._ledger.bill(story.born.serial, story.gone.boot_ns)
                event = msgspec.structs.replace(event, usage=bill)
            effects.append(self._say(story, event))
        return effects

    def _update(self, story: Story, now_ns: int) -> list[Effect]:
        """What was learnt after the telling, if it makes a difference."""
        told = story.told
        if told is None:
            return []
        event = self._describe(story, "container_update", now_ns, now_ns)
        changed = tuple(
            field
            for field in ContainerEvent.__struct_fields__
            if field not in _EVERY_EVENTS_OWN and getattr(event, field) != getattr(told, field)
        )
        if not changed and _judgement(event) == _judgement(told):
            return []
        story.updates += 1
        story.told = event
        return [self._say(story, msgspec.structs.replace(event, changed=changed))]

    def _say(self, story: Story, event: ContainerEvent) -> Tell:
        self._lost_told = self.lost
        return Tell(event, story.born.creator)

    def _describe(
        self, story: Story, name: EventName, happened_ns: int, now_ns: int
    ) -> ContainerEvent:
        is_birth = happened_ns == story.born.boot_ns
        offset_ns = story.born_offset_ns if is_birth else self.wall_offset_ns
        suffix = _SUFFIXES[name] + (str(story.updates + 1) if name == "container_update" else "")
        return describe(
            name,
            event_id=story.birth_id + suffix,
            host=self._host,
            happened_ns=happened_ns + offset_ns,
            born=story.born,
            wall_offset_ns=story.born_offset_ns,
            cgroup=story.cgroup,
            path=story.path,
            known=story.known,
            reasons=reasons(story),
            verified=story.verified,
            after_ms=None if story.born.listed else (now_ns - story.born.boot_ns) / _MS,
            lost_before=self.lost - self._lost_told,
        )


_SUFFIXES: Final[dict[EventName, str]] = {
    "container_create": "",
    "existing_container": "",  # the same birth, told again
    "container_start": "-start",
    "container_update": "-update-",
    "container_remove": "-remove",
}
_EVERY_EVENTS_OWN: Final = frozenset({"event", "id", "time", "lost_before", "changed", "evidence"})


def _judgement(event: ContainerEvent) -> tuple[Status, Mapping[str, Missing]]:
    return event.evidence.status, event.evidence.missing


def _birth_id(boot_id: str, story: Story) -> str:
    """
    The same for the same birth, whoever tells of it: a cgroup's id is never used twice.

    Told before its directory in the unified hierarchy was made, it has the id of another
    one; who finds it later can't know of which, unless an earlier ctrwatch kept it.
    """
    listed = story.born.listed
    if listed is not None and listed.birth:
        return listed.birth
    created = listed.created_ns if listed is not None and story.cgroup == NOWHERE else None
    parts = (
        *(boot_id, *map(str, story.cgroup), story.born.identity.container_id),
        *((str(created),) if created is not None else ()),
    )
    return stable_id(*parts)
