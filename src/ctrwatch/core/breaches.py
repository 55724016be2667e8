"""Violations counted: by severity, time, rule and creator. Pure."""

from __future__ import annotations

from collections import Counter, deque
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ctrwatch.event import Creator, Severity, Violation

__all__ = ("SEVERITIES", "Breaches", "Broken", "By", "Counting", "Example")

SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "high", "medium", "low", "info")
_RULES: Final = 10_000  # kept apart: five policies as large as they may be
_CREATORS: Final = 1_000  # a name of 15 characters that whoever runs the process chooses
_EXAMPLES: Final = 10  # of a rule, the newest: the rest is one `ctrwatch history` away


class Example(msgspec.Struct, frozen=True, kw_only=True):
    time: str
    verdict: str
    message: str
    runtime: str
    container_id: str
    container_name: str
    container_image: str
    pod: str
    creator: str


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, and how often it said what."""

    policy: str
    rule: str
    severity: str
    tags: tuple[str, ...]
    violations: int
    errors: int
    undecided: int
    first: str
    last: str
    examples: Annotated[tuple[Example, ...], Meta(description="the newest ones")]


class By(msgspec.Struct, frozen=True, kw_only=True):
    """Who made the cgroup: runtimes mostly, and anything else is worth a look."""

    comm: str
    uid: int | None
    violations: int


class Breaches(msgspec.Struct, frozen=True, kw_only=True):
    violations: int
    errors: Annotated[int, Meta(description="the rule failed, and nobody knows")]
    undecided: Annotated[int, Meta(description="a field that it needs was never learnt")]
    by_severity: dict[str, int]
    by_rule: tuple[Broken, ...]
    by_creator: tuple[By, ...]
    over_time: Annotated[
        dict[str, list[int]], Meta(description="severity: how many in each step of the period")
    ]
    left_out: Annotated[int, Meta(description="violations of rules that are not in by_rule")] = 0


class _Rule:
    def __init__(self, violation: Violation) -> None:
        self.severity, self.tags = violation.severity, violation.tags
        self.first = self.last = violation.time
        self.verdicts: Counter[str] = Counter()
        self.examples: deque[Example] = deque(maxlen=_EXAMPLES)


class Counting:
    """*steps*: into how many the period is cut."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._verdicts: Counter[str] = Counter()
        self._severities: Counter[str] = Counter()
        self._rules: dict[tuple[str, str, str], _Rule] = {}
        self._creators: Counter[tuple[str, int | None]] = Counter()
        self._over_time: dict[str, list[int]] = {}
        self._left_out = 0

    def add(self, violation: Violation, creator: Creator | None, step: int) -> None:
        """*creator*: None where the birth is not in the period."""
        self._verdicts[violation.verdict] += 1
        if violation.verdict == "violation":
            self._severities[violation.severity] += 1
            row = self._over_time.setdefault(violation.severity, [0] * self._steps)
            row[min(max(step, 0), self._steps - 1)] += 1
            who = (creator.comm, creator.uid) if creator else ("", None)
            if who not in self._creators and len(self._creators) >= _CREATORS:
                who = ("(others)", None)
            self._creators[who] += 1
        key = violation.policy, violation.rule, violation.severity  # which may have been changed
        if key not in self._rules and len(self._rules) >= _RULES:
            self._left_out += 1
            return
        rule = self._rules.setdefault(key, _Rule(violation))
        rule.last = violation.time
        rule.verdicts[violation.verdict] += 1
        rule.examples.append(_example(violation, creator))

    def value(self) -> Breaches:
        broken = [_broken(*key[:2], rule) for key, rule in self._rules.items()]
        order = {severity: number for number, severity in enumerate(SEVERITIES)}
        return Breaches(
            violations=self._verdicts["violation"],
            errors=self._verdicts["error"],
            undecided=self._verdicts["undecided"],
            by_severity={each: self._severities[each] for each in SEVERITIES},
            by_rule=tuple(
                sorted(broken, key=lambda each: (order[each.severity], -each.violations, each.rule))  # type: ignore[index]
            ),
            by_creator=tuple(
                By(comm=comm, uid=uid, violations=number)
                for (comm, uid), number in self._creators.most_common()
            ),
            over_time=self._over_time,
            left_out=self._left_out,
        )


def _example(violation: Violation, creator: Creator | None) -> Example:
    return Example(
        time=violation.time,
        verdict=violation.verdict,
        message=violation.message,
        runtime=violation.runtime,
        container_id=violation.container_id,
        container_name=violation.container_name,
        container_image=violation.container_image,
        pod="/".join(filter(None, (violation.pod_namespace, violation.pod_name))),
        creator=creator.comm if creator else "",
    )


def _broken(policy: str, name: str, rule: _Rule) -> Broken:
    return Broken(
        policy=policy,
        rule=name,
        severity=rule.severity,
        tags=rule.tags,
        violations=rule.verdicts["violation"],
        errors=rule.verdicts["error"],
        undecided=rule.verdicts["undecided"],
        first=rule.first,
        last=rule.last,
        examples=tuple(reversed(rule.examples)),
    )
