"""
Policies over what containers use: each rule judges each look, and is told once. Pure.

A rule on use is a violation when it was broken at all looks of its hold (`for`), and is told again
only after it was fine at all looks of as long a time, and of at least ten seconds: an episode. A look
at which it can't be decided (no rates yet, a controller that is off) neither breaks nor mends.
That it fails is a verdict of its own, once for each container.

Times are the readings' own, so a recording has the same verdicts. What is kept is of rules that a
container breaks or has broken, and is dropped with the container.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ctrwatch.core.cel import Facts
from ctrwatch.core.describe import rfc3339
from ctrwatch.core.figures import figures
from ctrwatch.core.ids import birth_of, stable_id
from ctrwatch.core.judge import BIRTHS, Answer, Breach, Judgement, judge, violation_of
from ctrwatch.core.ledger import Reading
from ctrwatch.core.policy import Outcome, Policy, Rule, TestCase
from ctrwatch.event import ContainerEvent

__all__ = ("Holding", "expected")

_CALM_NS: Final = 10_000_000_000  # what comes and goes within it is one episode
_SETTLED_S: Final = 10.0
# Rules that are broken, over all containers: 1,000 containers that break a hundred each, 20 MB.
_PAIRS: Final = 100_000


class _Pair:
    """A rule, and a container that breaks it or has broken it."""

    __slots__ = ("broken_ns", "episode", "failed", "fine_ns", "telling")

    def __init__(self) -> None:
        self.broken_ns: int | None = None  # since when, while it is not told
        self.telling = False  # an episode that is told is not over
        self.fine_ns: int | None = None  # since when, in an episode that is told
        self.episode = 0  # how many were told
        self.failed = False  # that is told

    @property
    def is_new(self) -> bool:
        """Nothing is to be remembered of it."""
        return self.broken_ns is None and not self.episode and not self.failed

    def broken(self, now_ns: int, hold_ns: int) -> bool:
        """Whether an episode begins that is to be told."""
        self.fine_ns = None
        if self.telling:
            return False
        if self.broken_ns is None:
            self.broken_ns = now_ns
        if now_ns - self.broken_ns < hold_ns:
            return False
        self.broken_ns, self.telling = None, True
        self.episode += 1
        return True

    def fine(self, now_ns: int, hold_ns: int) -> None:
        self.broken_ns = None
        if not self.telling:
            return
        if self.fine_ns is None:
            self.fine_ns = now_ns
        if now_ns - self.fine_ns >= max(hold_ns, _CALM_NS):
            self.telling, self.fine_ns = False, None


_Key = tuple[str, str]  # policy, rule


class Holding:
    """The rules on use of *policies*, over the readings of all containers."""

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._rules: dict[_Key, tuple[Policy, Rule, int]] = {}
        self._pairs: dict[str, dict[_Key, _Pair]] = {}  # by birth
        self._number = 0  # of pairs
        self._asked_once = frozenset[_Key]()  # rules whose `when` calls a function of ours
        # Of each living container, what it said of the event that was told last.
        self._answers: dict[str, dict[_Key, tuple[str, Answer]]] = {}
        self._doubts: dict[_Key, str] = {}  # rules that could not be decided, and for want of what
        self._doubted: set[_Key] = set()  # of which that was said
        self.crowded = 0  # broken rules that found no room, and are not told
        self._full = False  # that is said
        self.swap(policies)

    def __len__(self) -> int:
        """Pairs of a container and a rule of which something is remembered."""
        return self._number

    @property
    def rules(self) -> int:
        return len(self._rules)

    def swap(self, policies: Sequence[Policy]) -> None:
        """From now on these judge. An episode goes on if its rule is as it was."""
        before = self._rules
        self._rules = {
            (policy.name, rule.name): (policy, rule, rule.hold_ns)
            for policy in policies
            for rule in policy.rules
            if rule.hold_ns is not None
        }
        rules = [rule for _, rule, _ in self._rules.values()]
        self._names = frozenset[str]().union(*map(_names, rules))
        self._asked_once = frozenset(
            key
            for key, (_, rule, _) in self._rules.items()
            if rule.when is not None and rule.when.calls
        )
        self._answers.clear()
        stay = {
            key
            for key, (_, rule, _) in self._rules.items()
            if key in before and _says(before[key][1]) == _says(rule)
        }
        self._doubts = {key: why for key, why in self._doubts.items() if key in stay}
        self._doubted &= stay
        for birth, pairs in list(self._pairs.items()):
            self._keep(birth, {key: pair for key, pair in pairs.items() if key in stay})

    def read(self, reading: Reading, wall_offset_ns: int) -> list[Breach]:
        """Judge a look; *wall_offset_ns* makes its time one of the wall clock."""
        if not self._rules:
            return []
        known, event = figures(reading), _birth(reading.container)
        facts = Facts(event, figures=known, names=self._names)
        birth, found = event.id, list[Breach]()
        for key, (policy, rule, hold_ns) in self._rules.items():
            judgement = judge(rule, facts, self._applies(key, rule, facts, reading.container.id))
            if judgement.outcome == "undecided" and _is_settled(reading):
                self._doubts.setdefault(key, judgement.why)
            pair = self._pair(birth, key, judgement)
            if pair is None or not (which := _told(pair, judgement, reading.boot_ns, hold_ns)):
                continue
            violation = violation_of(event, policy, rule, judgement, known)
            if violation is not None:
                made = msgspec.structs.replace(
                    violation,
                    id=stable_id(birth, *key, which),
                    time=rfc3339(reading.boot_ns + wall_offset_ns),
                )
                found.append(Breach(made, event, "ended" if reading.final else "running"))
        if pairs := self._pairs.get(birth):
            self._keep(birth, {key: pair for key, pair in pairs.items() if not pair.is_new})
        return found

    def _applies(self, key: _Key, rule: Rule, facts: Facts, told: str) -> Answer | None:
        """
        What its `when` says of the birth, where that calls a function of ours: asked once for what
        was told last, for each call costs memory for good. None: any other rule's.
        """
        if key not in self._asked_once or rule.when is None:
            return None
        answers = self._answers.setdefault(birth_of(told), {})
        if key not in answers or answers[key][0] != told:
            answers[key] = told, rule.when.holds(facts)
        return answers[key][1]

    def doubts(self) -> list[str]:
        """A sentence for each rule that could not be decided where it should, once; and on lack of room."""
        new = [key for key in self._doubts if key not in self._doubted]
        self._doubted.update(new)
        said = [
            f"policy {policy}: {rule} can't be decided of every container: nobody knows"
            f" {self._doubts[policy, rule]}"
            for policy, rule in new
        ]
        if self.crowded and not self._full:
            self._full = True
            said.append("too many rules on use are broken at a time: some are not told")
        return said

    def _pair(self, birth: str, key: _Key, judgement: Judgement) -> _Pair | None:
        """None: there is nothing to remember of it, or no room."""
        known = self._pairs.get(birth, {}).get(key)
        if known is not None or judgement.outcome not in ("violation", "error"):
            return known
        if self._number >= _PAIRS:
            self.crowded += 1
            return None
        self._number += 1
        return self._pairs.setdefault(birth, {}).setdefault(key, _Pair())

    def is_on(self, container: ContainerEvent) -> bool:
        """A hold runs: the container must be looked at often."""
        pairs = self._pairs.get(birth_of(container.id), {})
        return any(pair.broken_ns is not None for pair in pairs.values())

    def ended(self, container: ContainerEvent) -> None:
        self._answers.pop(birth_of(container.id), None)
        self._keep(birth_of(container.id), {})

    def _keep(self, birth: str, pairs: dict[_Key, _Pair]) -> None:
        self._number += len(pairs) - len(self._pairs.pop(birth, ()))
        if pairs:
            self._pairs[birth] = pairs


def _told(pair: _Pair, judgement: Judgement, now_ns: int, hold_ns: int) -> str:
    """Which of its verdicts is to be told now; "": none."""
    match judgement.outcome:
        case "violation":
            return str(pair.episode) if pair.broken(now_ns, hold_ns) else ""
        case "error":
            told, pair.failed = pair.failed, True
            return "" if told else "error"
        case "undecided":
            return ""
        case "pass" | "not_applicable":
            pair.fine(now_ns, hold_ns)
            return ""


def _is_settled(reading: Reading) -> bool:
    """What is not known by now won't be: its first rates, and what is asked after a birth."""
    age_s = reading.age_seconds
    return reading.rates is not None and (age_s is None or age_s >= _SETTLED_S)


def _names(rule: Rule) -> frozenset[str]:
    """The event's fields that it reads: the others need not be made."""
    conditions = (rule.condition,) if rule.when is None else (rule.condition, rule.when)
    return frozenset[str]().union(*(condition.names for condition in conditions))


def _says(rule: Rule) -> tuple[object, ...]:
    """What makes it the same rule after a reload: not its message, nor its severity."""
    when = rule.when.says if rule.when is not None else None
    return when, rule.condition.says, rule.denies, rule.hold_ns


def _birth(told: ContainerEvent) -> ContainerEvent:
    """The container's birth, with what is known of it by now."""
    if told.event in BIRTHS:
        return told
    return msgspec.structs.replace(
        told,
        event="existing_container" if told.creator.pid is None else "container_create",
        id=birth_of(told.id),
        changed=(),
    )


def expected(rule: Rule, case: TestCase) -> Outcome:
    """What a rule says of a policy's own test: of a birth, or after looks for as long as that lasted."""
    if rule.hold_ns is not None and case.figures is None:
        return "not_applicable"  # nobody looked
    outcome = judge(rule, Facts(case.event, figures=case.figures)).outcome
    lasted_ns = case.lasted_ns
    if outcome == "violation" and rule.hold_ns is not None and lasted_ns is not None:
        return outcome if lasted_ns >= rule.hold_ns else "pass"
    return outcome
