"""
What was announced, against what the runtimes' clients and records say. Pure: values in, a verdict out.

The truth is what a client said that it started, and what the runtimes list at the end. A start
whose client failed, for its daemon was killed under it, may have made a container or not: its
container may be announced, once, and must be only if its runtime lists it as one that was started.

A start that was not announced is excused only by a `watch_gap` of the stream, and only where
nobody could have known of it afterwards: it did not live when ctrwatch was back, and no record of
it was there to be asked for. All times are wall clock, in nanoseconds.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from ctrwatch.core.ids import birth_of
from ctrwatch.model import FINAL

SECOND_NS = 1_000_000_000
FIRST = frozenset({"container_create", "existing_container"})
SLACK_NS = SECOND_NS // 10  # between the clocks of a file system, of a client, and of the kernel
LISTED_NS = 6 * SECOND_NS  # after a gap: within this the runtimes have been asked for their lists
REMEMBERS = {
    "docker",
    "ctr",
}  # whose records ctrwatch finds; Podman's storage is at a place of its own


class Start(NamedTuple):
    """One time that a client was told to start a container."""

    runtime: str
    container: str  # id; "" where the client did not come so far
    begun_ns: int
    done_ns: int
    sure: bool  # the client said that it has started
    life_s: float  # of its program
    kept: bool = True  # there is a record of it afterwards, until it is removed
    again: bool = False  # it had been started before


class Told(NamedTuple):
    """An event of one of these containers, in the stream's order."""

    event: str
    id: str
    container: str
    time_ns: int
    status: str = ""
    missing: Mapping[str, str] = {}


class Gap(NamedTuple):
    reason: str
    since_ns: int
    until_ns: int


class Away(NamedTuple):
    """A daemon was dead or stopped: *runtimes* could not be asked."""

    runtimes: frozenset[str]
    since_ns: int
    until_ns: int
    dead: bool


Item = TypeVar("Item", Start, Told)


class Seen(NamedTuple):
    """All that is to be judged, and by what."""

    starts: Sequence[Start]
    told: Sequence[Told]
    gaps: Sequence[Gap] = ()
    aways: Sequence[Away] = ()
    removed_ns: Mapping[str, int] = {}  # by id: when its record was told to go
    started: frozenset[str] = frozenset()  # ids that are listed at the end as started once
    running: frozenset[str] = frozenset()  # ids that were listed as running after the stream's end
    there: frozenset[str] = frozenset()  # ids that had a cgroup a moment before the stream's end


class Verdict(NamedTuple):
    starts: Counter[str]  # by runtime: sure ones
    unsure: Counter[str]
    births: int  # that were announced
    unheard: int  # of them: after a gap
    excused: Counter[str]  # by the reason of the gap that they lie in
    faults: Mapping[str, Sequence[str]]  # by kind
    statuses: Counter[str]
    completed: int  # were partial, and became complete by an update
    partial: Counter[str]  # by the reasons

    def count(self, kind: str) -> int:
        return len(self.faults.get(kind, ()))


def judge(seen: Seen) -> Verdict:
    faults: dict[str, list[str]] = defaultdict(list)
    excused: Counter[str] = Counter()
    told = _by_container(seen.told)
    starts = _by_container(start for start in seen.starts if start.container)
    for container in starts.keys() | told.keys() | seen.started:
        events = told.get(container, [])
        births = _births(container, events, faults)
        mine = starts.get(container, [])
        _lives(container, events, births, seen, faults)
        if len(births) > len(mine):
            faults["double"].append(f"{container}: {len(births)} births of {len(mine)} starts")
        missing = _missing(mine, births)
        if container in seen.started and not births and not missing:
            faults["missing"].append(f"{container}: listed by its runtime, never announced")
        for start in missing:
            if reason := _excuse(start, seen):
                excused[reason] += 1
            else:
                faults["missing"].append(_said(start))
    return _verdict(seen, faults, excused)


def _verdict(seen: Seen, faults: Mapping[str, Sequence[str]], excused: Counter[str]) -> Verdict:
    creates = {birth_of(each.id): each for each in seen.told if each.event == "container_create"}
    partial = [each for each in creates.values() if each.status != "complete"]
    later = {
        birth_of(each.id)
        for each in seen.told
        if each.event == "container_update" and each.status == "complete"
    }
    return Verdict(
        starts=Counter(start.runtime for start in seen.starts if start.sure),
        unsure=Counter(start.runtime for start in seen.starts if not start.sure),
        births=len(creates),
        unheard=sum(each.missing.get("creator") == "unheard" for each in creates.values()),
        excused=excused,
        faults=faults,
        statuses=Counter(each.status for each in creates.values()),
        completed=sum(birth_of(each.id) in later for each in partial),
        partial=Counter(", ".join(sorted(set(each.missing.values()) - FINAL)) for each in partial),
    )


def _by_container(items: Iterable[Item]) -> dict[str, list[Item]]:
    found: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        found[item.container].append(item)
    return found


def _births(
    container: str, events: Sequence[Told], faults: dict[str, list[str]]
) -> dict[str, Told]:
    """By birth id, each that was announced as new; what is wrong with the order goes to *faults*."""
    births: dict[str, Told] = {}
    ended: set[str] = set()
    ids: set[str] = set()
    for event in events:
        birth = birth_of(event.id)
        if event.id in ids and event.event not in FIRST:
            faults["double"].append(f"{container}: {event.event} {event.id} was told twice")
        ids.add(event.id)
        if event.event == "container_create":
            if birth in births:
                faults["double"].append(f"{container}: {event.id} was announced twice")
            births.setdefault(birth, event)
        elif birth not in births:
            kind = "existing" if event.event == "existing_container" else "order"
            faults[kind].append(f"{container}: {event.event} {event.id} without a create before")
        if birth in ended:
            faults["order"].append(f"{container}: {event.event} {event.id} after its removal")
        if event.event == "container_remove":
            ended.add(birth)
    return births


def _lives(
    container: str,
    events: Sequence[Told],
    births: Mapping[str, Told],
    seen: Seen,
    faults: dict[str, list[str]],
) -> None:
    """What was told of its end, against what is there."""
    ended = {birth_of(each.id) for each in events if each.event == "container_remove"}
    living = [birth for birth in births if birth not in ended]
    if container in seen.running and births and not living:
        faults["end"].append(f"{container}: told as gone, and runs")
    if living and container not in seen.there | seen.running:
        faults["end"].append(f"{container}: gone, and {len(living)} births were not told as gone")


def _missing(starts: Sequence[Start], births: Mapping[str, Told]) -> list[Start]:
    """Sure starts that no announcement belongs to: by its time, else by number."""
    left = [birth.time_ns for birth in births.values()]
    unmatched = []
    for start in sorted(starts, key=lambda each: not each.sure):
        near = [
            at_ns
            for at_ns in left
            if start.begun_ns - SLACK_NS <= at_ns <= start.done_ns + SLACK_NS
        ]
        if near:
            left.remove(near[0])
        elif start.sure:
            unmatched.append(start)
    return unmatched[: max(0, len(unmatched) - len(left))]


def _excuse(start: Start, seen: Seen) -> str:
    """The reason of the gap that it lies in; "": it should have been announced."""
    for gap in seen.gaps:
        if start.begun_ns - SLACK_NS <= gap.until_ns and gap.since_ns <= start.done_ns + SLACK_NS:
            if _lived(start, gap, seen.aways) or _remembered(start, gap, seen):
                return ""
            return gap.reason
    return ""


def _lived(start: Start, gap: Gap, aways: Sequence[Away]) -> bool:
    """For certain, when ctrwatch looked around after the gap. A dockerd that is killed ends its own."""
    end_ns = start.begun_ns + int(start.life_s * SECOND_NS)
    ended = any(
        away.dead and start.runtime in away.runtimes and _meet(away, start.begun_ns, gap.until_ns)
        for away in aways
    )
    return end_ns > gap.until_ns + LISTED_NS and not ended


def _remembered(start: Start, gap: Gap, seen: Seen) -> bool:
    """
    For certain, by a runtime that could be asked after the gap.

    Runtimes list when a container was made, not when it was started: one that was made before
    the gap is not known to have been started in it.
    """
    asked_ns = gap.until_ns + LISTED_NS
    removed_ns = seen.removed_ns.get(start.container, asked_ns + 1)
    away = any(
        start.runtime in away.runtimes and _meet(away, gap.until_ns - SECOND_NS, asked_ns)
        for away in seen.aways
    )
    # After a loss ctrwatch looks at what is there, and does not ask for lists: docs/limits.md.
    asks = gap.reason == "restart"
    has_record = asks and start.kept and removed_ns > asked_ns and not start.again
    made_then = start.begun_ns >= gap.since_ns
    return start.runtime in REMEMBERS and has_record and made_then and not away


def _meet(away: Away, since_ns: int, until_ns: int) -> bool:
    return away.since_ns <= until_ns + SECOND_NS and since_ns - SECOND_NS <= away.until_ns


def _said(start: Start) -> str:
    again = " again" if start.again else ""
    return f"{start.container}: {start.runtime} started it{again} at {start.begun_ns}"


def growth(samples: Sequence[int]) -> tuple[float, float]:
    """The medians of the second and of the last third."""
    third = len(samples) // 3
    return statistics.median(samples[third : 2 * third]), statistics.median(samples[2 * third :])
