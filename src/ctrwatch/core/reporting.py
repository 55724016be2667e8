"""
The history of a period as a report for an auditor: rows in, one value out. Pure.

Rows come in the order of their time, from the history's beginning: those before the period say
which containers ran when it began, and which registries were known. A birth is judged with all
that was learnt of it, as the last of its updates has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from ctrwatch.core import reference
from ctrwatch.core.breaches import Counting
from ctrwatch.core.cel import Facts
from ctrwatch.core.costs import Cost
from ctrwatch.core.coverage import Coverage, Start, covered_ns
from ctrwatch.core.describe import rfc3339
from ctrwatch.core.ids import birth_of
from ctrwatch.core.judge import BIRTHS, judge, of_births, violation_of
from ctrwatch.core.policy import Policy, Rule
from ctrwatch.core.ran import Images, Judged
from ctrwatch.core.reported import Chain, Found, Report, UsedPolicy, UsedRule
from ctrwatch.core.rows import (
    HistoryPruned,
    Kept,
    Keys,
    WatchStop,
    event_of,
)
from ctrwatch.core.spending import Spending
from ctrwatch.event import (
    Audit,
    ContainerEvent,
    ContainerUsage,
    Enforcement,
    Flood,
    HostUsage,
    Violation,
    WatchGap,
)

__all__ = ("Reporter",)

_WORDS: Final = frozenset({"watch_gap", "watch_stop", "history_pruned"})
_OPEN: Final = 4_096  # births whose updates may still come: 16 MB, and a minute of 60 a second
_BEFORE: Final = 20_000  # whole births, 80 MB: more containers than a host has at one time
_LIVING: Final = 200_000  # ids of births whose end was not heard: a history's worth, 20 MB
_REGISTRIES: Final = 10_000  # as core/judge.py has it
_FOUND: Final = 1_000  # findings of audits that are named
_HOSTS: Final = 100  # a history is of one, which may have been renamed
_STEPS: Final = 48  # of the period: bars that can be told apart on a telephone


class _Open(NamedTuple):
    """A birth that is not counted yet."""

    event: ContainerEvent
    time_ns: int
    born: bool


class _Before(NamedTuple):
    """A container that was born before the period, and is not known to have ended."""

    seq: int
    time_ns: int
    kind: str
    body: bytes


class Reporter:
    """
    *since_ns* to *until_ns*, wall clock, the second not included.

    *starts*: every watch_start in the history, in the order of their numbers.
    """

    def __init__(
        self, since_ns: int, until_ns: int, policies: Sequence[Policy], starts: Sequence[Start]
    ) -> None:
        self._since_ns, self._until_ns = since_ns, max(until_ns, since_ns + 1)
        self._policies = of_births(policies)
        self._rules = [
            (policy, rule, f"{policy.name}/{rule.name}")
            for policy in self._policies
            for rule in policy.rules
        ]
        self._outcomes: dict[str, Counter[str]] = {name: Counter() for *_, name in self._rules}
        self._boots = [(start.time_ns, start.seq, start.row.boot_id) for start in starts]
        self._coverage = Coverage(starts)
        self._before: dict[str, _Before] | None = {}  # None: the period has begun
        self._before_left_out = 0
        self._living: dict[str, None] = {}  # births: who is told again is not born again
        self._open: dict[str, _Open] = {}
        self._registries: set[str] = set()
        self._images = Images()
        self._spending = Spending(since_ns, self._until_ns)
        self._judged, self._told = Counting(_STEPS), Counting(_STEPS)
        self._births_over_time = [0] * _STEPS
        self._hosts: dict[str, None] = {}
        self._counts: Counter[str] = Counter()
        self._evidence: Counter[str] = Counter()
        self._audits: Counter[str] = Counter()
        self._enforcements: Counter[str] = Counter()
        self._found: list[Found] = []
        self._pruned_until = ""

    def add(self, seq: int, keys: Keys, body: bytes) -> None:
        """A row before *until_ns*. Never raises for what is in it: such rows are counted."""
        if not isinstance(keys.time_ns, int):  # somebody changed the file
            self._counts["unreadable"] += 1
            return
        try:
            if keys.event != "existing_container":
                self._coverage.sign(seq, keys.time_ns)
            if keys.time_ns < self._since_ns:
                self._early(seq, keys, body)
                return
            self._begin()
            self._row(seq, keys, event_of(keys.event, body))
        except ValueError:
            self._counts["unreadable"] += 1

    def report(
        self,
        *,
        version: str,
        made_ns: int,
        chain: Chain,
        heaviest: Mapping[str, Sequence[Cost]] | None = None,
    ) -> Report:
        """All rows were added. *heaviest*: by what they are: cpu, memory, io."""
        self._begin()
        for each in self._open.values():
            self._settle(each)
        self._open.clear()
        since_ns, until_ns = self._since_ns, self._until_ns
        holes = self._coverage.holes(since_ns, until_ns)
        covered = covered_ns(since_ns, until_ns, holes) / (until_ns - since_ns)
        return Report(
            version=version,
            made=rfc3339(made_ns),
            since=rfc3339(since_ns),
            until=rfc3339(until_ns),
            hosts=tuple(self._hosts),
            covered=int(covered * 10_000) / 100,  # never rounded up: 99.999 is not all
            watchings=tuple(self._coverage.watchings(since_ns, until_ns)),
            holes=tuple(holes),
            holes_left_out=self._coverage.holes_left_out,
            chain=chain,
            events_lost=self._counts["lost"],
            unreadable=self._counts["unreadable"],
            pruned_until=self._pruned_until,
            births=self._counts["births"],
            running=self._counts["running"],
            running_left_out=self._before_left_out,
            evidence=dict(self._evidence),
            audits=dict(self._audits),
            found=tuple(self._found),
            floods=self._counts["floods"],
            enforcements=dict(self._enforcements),
            step_s=(until_ns - since_ns) / _STEPS / 1e9,
            births_over_time=self._births_over_time,
            spent=self._spending.value(heaviest or {}),
            images=self._images.value(),
            images_left_out=self._images.left_out,
            policies=tuple(map(self._used, self._policies)),
            judged=self._judged.value() if self._policies else None,
            told=self._told.value(),
        )

    # --- before the period --------------------------------------------------------------

    def _early(self, seq: int, keys: Keys, body: bytes) -> None:
        """Not decoded: there may be millions."""
        before = self._before
        if before is None:
            return
        birth = birth_of(keys.id)
        if keys.event in BIRTHS:
            self._know(keys.image)
            before.setdefault(birth, _Before(seq, keys.time_ns, keys.event, body))
            if len(before) > _BEFORE:
                del before[next(iter(before))]
                self._before_left_out += 1
        elif keys.event == "container_update" and birth in before:
            before[birth] = before[birth]._replace(body=body)
        elif keys.event == "container_remove":
            before.pop(birth, None)
        elif keys.event in _WORDS:
            self._word(seq, event_of(keys.event, body))

    def _know(self, image: str | None) -> None:
        named = reference.parse(image) if image else None
        if named is not None and len(self._registries) < _REGISTRIES:
            self._registries.add(named.registry)

    def _begin(self) -> None:
        """Who ran when the period began is of it, except whom an earlier boot had."""
        before, self._before = self._before, None
        if before is None:
            return
        booted = self._booted()
        for birth, (seq, time_ns, kind, body) in before.items():
            if seq < booted:
                continue
            try:
                event = event_of("container_create", body)
            except ValueError:
                self._counts["unreadable"] += 1
                continue
            assert isinstance(event, ContainerEvent)  # noqa: S101 - that is its type
            event = _as_born(event, kind, birth, rfc3339(time_ns))
            self._birth(birth, _Open(event, time_ns, born=False))

    def _booted(self) -> int:
        """The number of the first row of the machine's boot that the period began in."""
        boot, number = "", 0
        for time_ns, seq, boot_id in self._boots:
            if time_ns >= self._since_ns:
                break
            if boot_id != boot:
                boot, number = boot_id, seq
        return number

    # --- in the period ------------------------------------------------------------------

    def _row(self, seq: int, keys: Keys, event: Kept) -> None:
        match event:
            case ContainerEvent():
                self._life(birth_of(keys.id), keys.time_ns, event)
            case ContainerUsage():
                self._spending.used(birth_of(keys.id), event)
            case HostUsage():
                self._spending.host(keys.time_ns, event)
            case Violation():
                known = self._open.get(birth_of(event.event_id))
                creator = known.event.creator if known else None
                self._told.add(event, creator, self._step(keys.time_ns))
            case Enforcement():
                self._enforcements[f"{event.action}: {event.result}"] += 1
            case Audit():
                self._audits[event.finding] += 1
                if len(self._found) < _FOUND:
                    self._found.append(_found(event))
            case Flood():
                self._counts["floods"] += event.count
            case _:
                self._word(seq, event)

    def _life(self, birth: str, time_ns: int, event: ContainerEvent) -> None:
        self._counts["lost"] += event.lost_before
        if event.event in BIRTHS:
            born = event.event == "container_create"
            self._spending.born(birth, time_ns, event)
            self._birth(birth, _Open(event, time_ns, born=born))
        elif event.event == "container_update" and birth in self._open:
            known = self._open[birth]
            event = _as_born(event, known.event.event, birth, known.event.time)
            self._spending.known(birth, event)
            self._open[birth] = known._replace(event=event)
        elif event.event == "container_remove":
            self._living.pop(birth, None)
            self._spending.ended(birth, event)

    def _birth(self, birth: str, known: _Open) -> None:
        if birth in self._living or birth in self._open:
            return
        self._living[birth] = None
        if len(self._living) > _LIVING:
            del self._living[next(iter(self._living))]
        self._open[birth] = known
        if len(self._hosts) < _HOSTS:
            self._hosts.setdefault(known.event.host)
        if len(self._open) > _OPEN:
            self._settle(self._open.pop(next(iter(self._open))))

    def _settle(self, each: _Open) -> None:
        """Count it and judge it, as it is known now."""
        event, time_ns, born = each
        step = self._step(time_ns)
        self._counts["births" if born else "running"] += 1
        self._births_over_time[step] += born
        self._evidence[event.evidence.status] += 1
        self._images.add(event, self._verdicts(event, step), born=born)

    def _verdicts(self, event: ContainerEvent, step: int) -> list[Judged]:
        if not self._rules:
            return []
        registry = event.image.registry
        new = bool(registry) and registry not in self._registries
        new = new and len(self._registries) < _REGISTRIES
        if new:
            self._registries.add(registry)
        facts = Facts(event, new_registry=new)
        found = []
        for policy, rule, name in self._rules:
            judgement = judge(rule, facts)
            self._outcomes[name][judgement.outcome] += 1
            violation = violation_of(event, policy, rule, judgement)
            if violation is not None:
                self._judged.add(violation, event.creator, step)
            found.append(Judged(name, judgement))
        return found

    # --- words of the watch's own -------------------------------------------------------

    def _word(self, seq: int, event: Kept) -> None:
        match event:
            case WatchGap():
                self._coverage.gap(event)
            case WatchStop():
                self._coverage.stopped(seq, event)
            case HistoryPruned():
                self._pruned_until = max(self._pruned_until, event.until)
            case _:
                pass  # a watch's beginning, and that it is alive: their time says it all

    def _step(self, time_ns: int) -> int:
        """Who ran before counts at the beginning."""
        step = (time_ns - self._since_ns) * _STEPS // (self._until_ns - self._since_ns)
        return min(max(step, 0), _STEPS - 1)

    def _used(self, policy: Policy) -> UsedPolicy:
        return UsedPolicy(
            name=policy.name,
            description=policy.description,
            file=policy.file,
            rules=tuple(self._used_rule(policy, rule) for rule in policy.rules),
        )

    def _used_rule(self, policy: Policy, rule: Rule) -> UsedRule:
        return UsedRule(
            name=rule.name,
            description=rule.description,
            severity=rule.severity,
            tags=rule.tags,
            when=rule.when.text if rule.when is not None else None,
            condition=f"{'deny' if rule.denies else 'require'}: {rule.condition.text}",
            outcomes=dict(self._outcomes[f"{policy.name}/{rule.name}"]),
        )


def _as_born(event: ContainerEvent, kind: Any, birth: str, time: str) -> ContainerEvent:
    """The birth, with what is known of it by now."""
    return msgspec.structs.replace(event, event=kind, id=birth, time=time, changed=())


def _found(event: Audit) -> Found:
    return Found(
        time=event.time,
        finding=event.finding,
        runtime=event.runtime,
        container_id=event.container_id,
        container_name=event.container_name,
        container_image=event.container_image,
        source=event.source,
    )
