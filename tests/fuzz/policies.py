"""Policies as strangers write them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, get_args

from ctrwatch.core.holding import Holding, expected
from ctrwatch.core.judge import Judge
from ctrwatch.core.ledger import Reading
from ctrwatch.core.policy import Outcome, TestCase, parse
from ctrwatch.errors import InputError
from ctrwatch.event import Unread, Usage
from ctrwatch.policies import text_of
from tests.fuzz.boundary import Boundary, require

__all__ = ("policy",)

_SMALL: Final = b"""apiVersion: ctrwatch/v1
kind: Policy
metadata: {name: small}
lists: {known: known.txt}
parameters: {registries: [docker.io]}
rules:
  - name: one
    when: "!pod_sandbox"
    require: image.registry in params.registries || listed(container_image_digest, "known")
    severity: high
    tags: [T1610]
    message: "{container_image} {security.mounts}"
    action: kill
  - name: two
    when: glob(container_image, "x*y")
    deny: usage.cpu_cores > 2.0 || usage.memory_share > 0.9
    for: 30s
    message: "{usage.cpu_cores} {usage.pressure.io_waited_percent}"
tests:
  - {name: t, event: {container_image: "x/y:1", security: {privileged: true}}, expect: {one: pass}}
  - {name: u, event: {}, usage: {cpu_cores: 3, pressure: {io_waited_percent: null}}, lasted: 1m, expect: {two: pass}}
"""
_OUTCOMES: Final = frozenset(get_args(Outcome))
_IDLE: Final = Usage(cpu_seconds=1.0, pids=3, missing={"memory_bytes": Unread.NO_CONTROLLER})
_SEVERITIES: Final = frozenset({"info", "low", "medium", "high", "critical"})


def policy() -> Boundary:
    """A whole policy, its conditions and its tests."""

    def feed(raw: bytes) -> Hashable:
        found = parse(raw, "f", lambda _: b"sha256:00\n")
        for each in found:
            require("a rule is whole", all(rule.severity in _SEVERITIES for rule in each.rules))
            for case in each.tests:
                for rule in each.rules:
                    require("it has an outcome", expected(rule, case) in _OUTCOMES)
                    rule.message_of(case.event, case.figures)
                Judge([each], 0).heard(case.event, 0)
                _look(Holding([each]), case)
        return len(found), len(found[0].rules), len(found[0].tests)

    seeds = (_SMALL, text_of("approved-images").encode(), text_of("resources").encode())
    return Boundary(seeds, lambda mutator, given: mutator.raw(given), feed, (InputError,))


def _look(holding: Holding, case: TestCase) -> None:
    """Two looks, a day after each other: whatever holds is told once."""
    told = [
        breach.violation.id
        for boot_ns in (0, 86_400 * 10**9, 86_401 * 10**9)
        for breach in holding.read(
            Reading(0, case.event, boot_ns, 60.0, _IDLE, None, final=False), 0
        )
    ]
    require("each verdict is told once", len(told) == len(set(told)))
