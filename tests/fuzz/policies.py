"""Policies as strangers write them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from ctrwatch.core.cel import Facts
from ctrwatch.core.judge import judge
from ctrwatch.core.policy import parse
from ctrwatch.errors import InputError
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
tests:
  - {name: t, event: {container_image: "x/y:1", security: {privileged: true}}, expect: {one: pass}}
"""
_SEVERITIES: Final = frozenset({"info", "low", "medium", "high", "critical"})


def policy() -> Boundary:
    """A whole policy, its conditions and its tests."""

    def feed(raw: bytes) -> Hashable:
        found = parse(raw, "f", lambda _: b"sha256:00\n")
        for each in found:
            require("a rule is whole", all(rule.severity in _SEVERITIES for rule in each.rules))
            for case in each.tests:
                facts = Facts(case.event)
                for rule in each.rules:
                    judge(rule, facts)
        return len(found), len(found[0].rules), len(found[0].tests)

    seeds = (_SMALL, text_of("approved-images").encode())
    return Boundary(seeds, lambda mutator, given: mutator.raw(given), feed, (InputError,))
