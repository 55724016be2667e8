"""Policies: how long a thousand rules take to judge a birth, or a look at what a container uses."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from bench.page import MS, Row, Scale, Section
from bench.progress import say
from ctrwatch.core.holding import Holding
from ctrwatch.core.judge import Judge
from ctrwatch.core.ledger import Reading
from ctrwatch.core.policy import Policy, parse
from ctrwatch.event import ContainerEvent, Pressure, Rates, Usage
from ctrwatch.policies import load, shipped
from tests.golden.test_golden import HERE as GOLDEN

_T = TypeVar("_T")
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
_USE: Final = (
    "usage.cpu_cores > {n}.5",
    'usage.memory_share > 0.9 && container_name == "job-{n}"',
    "usage.throttled_share > 0.9 || usage.pressure.memory_waited_percent > 99.0",
    "!pod_sandbox && usage.pids > {n} && usage.age_seconds > 600.0",
)


def measure(scale: Scale) -> Section:
    say("policy: a thousand rules")
    births = _births()
    plain, helpers = (_took_ms(_policies(each), births, scale) for each in (_PLAIN, _HELPERS))
    packs = load(shipped())
    number = sum(rule.hold_ns is None for policy in packs for rule in policy.rules)
    use = _use_took_ms(_policies(_USE), births, scale)
    own, holding = _use_took_ms(packs, births, scale), Holding(packs)
    whole = _took_ms(packs, births, scale)
    return Section(
        f"Policies, a birth judged, median of {scale.judged:,}",
        [
            _row("by 1,000 rules of CEL alone", plain, RULES, bar=True),
            _row("by 1,000 rules that call helpers", helpers, RULES, bar=True),
            _row(f"by the {number} rules that ship", whole, number),
            _row("a look at its use, by 1,000 rules on that", use, RULES, bar=True),
            _row(f"a look at its use, by the {holding.rules} rules that ship", own, holding.rules),
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
    return _median_ms(lambda event: judge.heard(event, 0), births, scale)


def _use_took_ms(policies: list[Policy], births: list[ContainerEvent], scale: Scale) -> float:
    """Of containers that break none of them, as nearly all do."""
    holding = Holding(policies)
    looks = [_look(event) for event in births]
    for look in looks:
        holding.read(look, 0)
    return _median_ms(lambda look: holding.read(look, 0), looks, scale)


def _median_ms(work: Callable[[_T], object], each: Sequence[_T], scale: Scale) -> float:
    took = []
    for number in range(scale.judged):
        one = each[number % len(each)]
        begun_ns = time.perf_counter_ns()
        work(one)
        took.append(time.perf_counter_ns() - begun_ns)
    return statistics.median(took) / MS


def _look(event: ContainerEvent) -> Reading:
    used = dict.fromkeys(
        name for name in Usage.__struct_fields__ if name not in ("pressure", "missing")
    )
    pressure = Pressure(memory_waited_percent=0.1, memory_waited_seconds=1.0)
    usage = Usage(**dict.fromkeys(used, 0), pressure=pressure)  # type: ignore[arg-type]
    rates = Rates(seconds=1.0, cpu_cores=0.1, throttled_share=0.0)
    return Reading(0, event, 60 * 10**9, 60.0, usage, rates, final=False)
