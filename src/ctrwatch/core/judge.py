"""
Policies over container events: each rule judges a birth once. Pure.

A rule that needs what is not known yet waits for a `container_update`, until the deadline;
then it says that it could not decide. An error is a verdict of its own, never a pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from ctrwatch.core.cel import Facts, Failed, Unknown
from ctrwatch.core.figures import Figures
from ctrwatch.core.ids import birth_of, stable_id
from ctrwatch.core.policy import Outcome, Policy, Rule
from ctrwatch.event import ContainerEvent, Violation

__all__ = (
    "BIRTHS",
    "NEVER_NS",
    "Answer",
    "Breach",
    "Judge",
    "Judgement",
    "Moment",
    "judge",
    "of_births",
    "violation_of",
)

BIRTHS: Final = frozenset({"container_create", "existing_container"})
_WAITING: Final = 10_000  # births with rules that wait: a thousand a second, ten seconds long
NEVER_NS: Final = 1 << 63  # later than any deadline
Moment = Literal["birth", "running", "ended"]
_REGISTRIES: Final = 10_000  # that were seen: beyond it a new one is not told from an old one


Answer = bool | Unknown | Failed  # of a condition


class Judgement(NamedTuple):
    outcome: Outcome
    why: str = ""  # of an error, or the fields that a rule lacks


class Breach(NamedTuple):
    """
    A violation, and the birth that it is of, as it is known by then.

    *moment*: at the birth; while it runs; or when its first process has ended already.
    """

    violation: Violation
    event: ContainerEvent
    moment: Moment = "birth"


class _Waiting(NamedTuple):
    event: ContainerEvent  # the birth, as it is known by now
    rules: tuple[tuple[Policy, Rule], ...]
    until_ns: int
    new_registry: bool = False


def of_births(policies: Sequence[Policy]) -> list[Policy]:
    """The same without their rules on use, and without those that have no others."""
    found = [
        msgspec.structs.replace(
            policy, rules=tuple(rule for rule in policy.rules if rule.hold_ns is None)
        )
        for policy in policies
    ]
    return [policy for policy in found if policy.rules]


def judge(rule: Rule, facts: Facts, applies: Answer | None = None) -> Judgement:
    """*applies*: what its `when` says, for who knows that already."""
    if applies is None:
        applies = rule.when.holds(facts) if rule.when is not None else True
    if applies is not True:
        return _undecided(applies) or Judgement("not_applicable")
    holds = rule.condition.holds(facts)
    return _undecided(holds) or Judgement("violation" if holds is rule.denies else "pass")


def _undecided(answer: Answer) -> Judgement | None:
    match answer:
        case Unknown(fields):
            return Judgement("undecided", ", ".join(fields))
        case Failed(why):
            return Judgement("error", why)
        case bool():
            return None


class Judge:
    """
    *patience_ns*: how long after its birth a container's rules wait for what they lack.

    Times are the kernel's boot clock, given by the caller. Rules on use are not its: see
    core/holding.py.
    """

    def __init__(self, policies: Sequence[Policy], patience_ns: int) -> None:
        self._patience_ns = patience_ns
        self.swap(policies)
        self._waiting: dict[str, _Waiting] = {}  # by birth, oldest first
        self._registries: set[str] = set()

    def swap(self, policies: Sequence[Policy]) -> None:
        """From now on these judge; who waits is judged by the rule that he waits for."""
        self._rules = tuple(
            (policy, rule) for policy in of_births(policies) for rule in policy.rules
        )

    @property
    def due_ns(self) -> int | None:
        """When `overdue` has something to say; None: never, as it is."""
        return min((each.until_ns for each in self._waiting.values()), default=None)

    def heard(self, event: ContainerEvent, now_ns: int) -> list[Breach]:
        if event.event in BIRTHS:
            until_ns = now_ns + self._patience_ns - int((event.evidence.after_ms or 0) * 1e6)
            return self._judge(_Waiting(event, self._rules, until_ns), now_ns)
        birth = birth_of(event.id)
        waiting = self._waiting.pop(birth, None)
        if waiting is None:
            return []
        if event.event == "container_update":
            return self._judge(waiting._replace(event=_known_by(event, waiting.event)), now_ns)
        if event.event == "container_remove":
            return self._judge(waiting._replace(until_ns=now_ns), now_ns)
        self._waiting[birth] = waiting
        return []

    def overdue(self, now_ns: int) -> list[Breach]:
        late = [birth for birth, each in self._waiting.items() if each.until_ns <= now_ns]
        return [
            breach for birth in late for breach in self._judge(self._waiting.pop(birth), now_ns)
        ]

    def finish(self) -> list[Breach]:
        """Nothing comes any more: what still waits is undecided."""
        return self.overdue(NEVER_NS)

    def _judge(self, waiting: _Waiting, now_ns: int) -> list[Breach]:
        event, new = waiting.event, waiting.new_registry or self._is_new(waiting.event)
        facts = Facts(event, new_registry=new)
        told, later = [], []
        may_wait = now_ns < waiting.until_ns and len(self._waiting) < _WAITING
        for policy, rule in waiting.rules:
            judgement = judge(rule, facts)
            if judgement.outcome == "undecided" and may_wait:
                later.append((policy, rule))
            elif (violation := violation_of(event, policy, rule, judgement)) is not None:
                told.append(Breach(violation, event))
        if later:
            self._waiting[birth_of(event.id)] = waiting._replace(
                rules=tuple(later), new_registry=new
            )
        return told

    def _is_new(self, event: ContainerEvent) -> bool:
        """No earlier container was from its image's registry."""
        registry = event.image.registry
        if not registry or registry in self._registries or len(self._registries) >= _REGISTRIES:
            return False
        self._registries.add(registry)
        return True


def _known_by(update: ContainerEvent, birth: ContainerEvent) -> ContainerEvent:
    """The birth, with what is known of it by now."""
    return msgspec.structs.replace(
        update, event=birth.event, id=birth.id, time=birth.time, changed=()
    )


def violation_of(
    event: ContainerEvent,
    policy: Policy,
    rule: Rule,
    judgement: Judgement,
    figures: Figures | None = None,
) -> Violation | None:
    """None where the rule holds, or does not apply. *figures*: of a rule on use."""
    match judgement.outcome:
        case "pass" | "not_applicable":
            return None
        case "violation" as verdict:
            message = rule.message_of(event, figures)
        case "error" as verdict:
            message = f"the rule failed: {judgement.why}"
        case "undecided" as verdict:
            message = f"not known in time: {judgement.why}"
    return Violation(
        id=stable_id(birth_of(event.id), policy.name, rule.name),
        time=event.time,
        host=event.host,
        verdict=verdict,
        policy=policy.name,
        rule=rule.name,
        severity=rule.severity,
        tags=rule.tags,
        message=message,
        action=rule.action,
        event_id=event.id,
        runtime=event.runtime,
        container_id=event.container_id,
        container_name=event.container_name,
        container_image=event.container_image,
        container_image_digest=event.container_image_digest,
        pod_name=event.pod_name,
        pod_namespace=event.pod_namespace,
    )
