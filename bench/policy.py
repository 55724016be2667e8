"""Policies: how long a thousand rules take to judge a birth."""

from __future__ import annotations

import statistics
import time

import msgspec

from bench.page import MS, Row, Scale, Section
from bench.progress import say
from ctrwatch.core.judge import Judge
from ctrwatch.core.policy import Policy, parse
from ctrwatch.event import ContainerEvent
from ctrwatch.policies import load, shipped
from tests.golden.test_golden import HERE as GOLDEN

RULES = 1_000
AT_MOST_MS = 10.0
_HEAD = "apiVersion: ctrwatch/v1\nkind: Policy\nmetadata: {name: bench}\nrules:\n"
# As rules are: most look at a field or two, some at the mounts, some call a helper of ours.
_PLAIN = (
    'security.privileged == true && image.repository != "tools/{n}"',
    'container_image.startsWith("registry{n}.example/") && !pod_sandbox',
    'security.mounts.exists(m, m.type == "bind" && m.source == "/srv/{n}")',
    '"CAP_SYS_ADMIN" in security.capabilities && labels.size() == {n}',
)
_HELPERS = (
    'image_matches(container_image, "registry.example/team-{n}/*")',
    'glob(container_name, "job-{n}-*")',
    'has_capability(security, "SYS_PTRACE") && runtime == "r{n}"',
    'mounts_host(security, "/srv/{n}")',
)


def measure(scale: Scale) -> Section:
    say("policy: a thousand rules")
    births = _births()
    plain, helpers = (_took_ms(_policies(each), births, scale) for each in (_PLAIN, _HELPERS))
    packs = load(shipped())
    number = sum(len(policy.rules) for policy in packs)
    whole = _took_ms(packs, births, scale)
    return Section(
        f"Policies, a birth judged, median of {scale.judged:,}",
        [
            _row("by 1,000 rules of CEL alone", plain, RULES, bar=True),
            _row("by 1,000 rules that call helpers", helpers, RULES, bar=True),
            _row(f"by the {number} rules that ship", whole, number),
        ],
    )


def _row(what: str, took_ms: float, rules: int, *, bar: bool = False) -> Row:
    figure = f"{took_ms:.2f} ({took_ms * 1e3 / rules:.1f} µs a rule)"
    if not bar:
        return Row(f"{what}, ms", figure)
    return Row(f"{what}, ms", figure, bar=f"under {AT_MOST_MS:.0f}", met=took_ms < AT_MOST_MS)


def _policies(conditions: tuple[str, ...]) -> list[Policy]:
    rules = (
        f"  - {{name: r{n}, deny: '{conditions[n % len(conditions)].replace('{n}', str(n))}'}}\n"
        for n in range(RULES)
    )
    return parse((_HEAD + "".join(rules)).encode(), "bench.yaml", lambda _: b"")


def _births() -> list[ContainerEvent]:
    """Real ones, as four runtimes made them."""
    lines = (
        line
        for file in sorted(GOLDEN.glob("*.events.jsonl"))
        for line in file.read_bytes().splitlines()
        if b'"event":"container_create"' in line
    )
    return [msgspec.json.decode(line, type=ContainerEvent) for line in lines]


def _took_ms(policies: list[Policy], births: list[ContainerEvent], scale: Scale) -> float:
    judge = Judge(policies, 0)
    for event in births:
        judge.heard(event, 0)  # what is looked up once is, as in a watch
    took = []
    for number in range(scale.judged):
        event = births[number % len(births)]
        begun_ns = time.perf_counter_ns()
        judge.heard(event, 0)
        took.append(time.perf_counter_ns() - begun_ns)
    return statistics.median(took) / MS
