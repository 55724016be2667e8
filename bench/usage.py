"""What `--usage` costs, and how often the last look wins its race with the runtime's rmdir.

A thousand containers that are hours old can't be had in a minute: their processes are started here, and
are given to a real chain without the time of their start, so that they count as old. Everything else is
real: their cgroups in each hierarchy, the looks, the chain. The races are run as users run containers.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from bench.page import Row, Scale, Section
from bench.programs import cpu_ns, ours
from bench.progress import say
from ctrwatch.core.chain import Chain, Header, Input
from ctrwatch.core.changes import Born
from ctrwatch.core.ledger import Sampled
from ctrwatch.meter import Meter
from ctrwatch.sensor.host import Host, read_host, wall_offset_ns
from ctrwatch.sensor.scan import scan
from tests.live.bed import Bed
from tests.live.crowd import Crowd
from tests.live.watching import Event, Watching

AT_MOST = 0.01  # of a core, for a thousand settled containers
_SETTLED_NS = 60_000_000_000


class Spent(NamedTuple):
    cores: float
    looks: float  # a second
    look_us: float


def measure(scale: Scale) -> Section:
    with Bed() as bed, Crowd(bed.home / "crowd", scale.crowd):
        say(f"usage: {scale.crowd:,} settled containers for {scale.idle_s:.0f} s")
        settled = asyncio.run(_settled(read_host(), scale))
        say("usage: the same, seen as they are: newborn")
        newborn = _newborn(scale)
    races = [_race(kind, scale.births) for kind in KINDS]
    return Section(
        "What containers use (`--usage`)",
        [
            Row(
                f"{scale.crowd:,} settled containers, {settled.looks:.1f} looks a second: CPU of one core",
                f"{settled.cores:.2%}",
                "",
                "under 1 %",
                settled.cores < AT_MOST,
            ),
            Row("… CPU of a look, with all that follows, µs", f"{settled.look_us:.0f}"),
            Row(
                f"{scale.crowd:,} of them younger than 5 minutes: CPU of one core, all of ctrwatch",
                f"{newborn:.2%}",
            ),
            *races,
        ],
        NOTE,
    )


async def _settled(host: Host, scale: Scale) -> Spent:
    header = Header(
        host="bench", boot_id="", wall_offset_ns=wall_offset_ns(), wait_ns=0, unified=True,
        usage_at_ns=(),
    )  # fmt: skip
    chain, looks = Chain(header), 0

    def feed(item: Input) -> None:
        nonlocal looks
        looks += isinstance(item, Sampled)
        chain.feed(item)

    meter = Meter(host, chain, feed, settled_ns=_SETTLED_NS, ages_ns=())
    for item in scan(host):
        for effect in chain.feed(msgspec.structs.replace(item, init_start_ns=None)):
            if isinstance(effect, Born):
                meter.heard(effect)
    while looks < scale.crowd:  # noqa: ASYNC110 - each once, at the start
        await asyncio.sleep(0.1)
    looks = 0
    began_s, before_ns = time.monotonic(), time.process_time_ns()
    await asyncio.sleep(scale.idle_s)
    spent_ns, took_s = time.process_time_ns() - before_ns, time.monotonic() - began_s
    meter.close()
    return Spent(spent_ns / 1e9 / took_s, looks / took_s, spent_ns / 1000 / max(1, looks))


def _newborn(scale: Scale) -> float:
    with ours("--usage") as program:
        time.sleep(2)  # what start-up left to do
        before_ns, began_s = cpu_ns(program.pid), time.monotonic()
        time.sleep(scale.idle_s)
        return (cpu_ns(program.pid) - before_ns) / 1e9 / (time.monotonic() - began_s)


# --- the race with the rmdir ----------------------------------------------------------------


class Kind(NamedTuple):
    name: str
    run: Callable[[Bed, int], str]  # one that lives a tenth of a second, or less


def _docker(bed: Bed, _: int) -> str:
    return bed.docker.run("sleep", "0.1")


def _docker_true(bed: Bed, _: int) -> str:
    return bed.docker.run("true")


def _podman(bed: Bed, _: int) -> str:
    return bed.podman.run("sleep", "0.1")


def _podman_true(bed: Bed, _: int) -> str:
    return bed.podman.run("true")


def _runc(bed: Bed, number: int) -> str:
    return bed.runc.run(f"race-{number}", "sleep", "0.1", detach=False)


def _runc_true(bed: Bed, number: int) -> str:
    return bed.runc.run(f"race-true-{number}", "true", detach=False)


KINDS = (
    Kind("`docker run … sleep 0.1`", _docker),
    Kind("`docker run … true`", _docker_true),
    Kind("`podman run … sleep 0.1`", _podman),
    Kind("`podman run … true`", _podman_true),
    Kind("`runc run`, in the foreground, `sleep 0.1`", _runc),
    Kind("`runc run`, in the foreground, `true`", _runc_true),
)


def _race(kind: Kind, number: int) -> Row:
    say(f"usage: {kind.name}")
    with Bed() as bed, Watching("--usage", "--no-existing") as watching:
        bills: list[Event] = []
        for each in range(number):
            container = kind.run(bed, each)
            bills.append(watching.event("container_remove", container)["usage"])
    won = Counter(
        word
        for bill in bills
        for word, holds in (
            ("final", bill["final"] and "gone" not in bill["missing"].values()),
            ("exit", bill["exit_code"] is not None),
        )
        if holds
    )
    before_ms = [
        bill["read_before_end_seconds"] * 1000
        for bill in bills
        if bill["read_before_end_seconds"] is not None
    ]
    time_left = f"{statistics.median(before_ms):.1f} ms before its rmdir" if before_ms else "never"
    return Row(
        f"{kind.name}: read after its end, whole (exit code known)",
        f"{won['final']} of {number} ({won['exit']}), {time_left}",
    )


NOTE = """## Use
The settled containers are real processes in cgroups of each hierarchy; that they are hours old is only
said to the chain. Of a short life the last look races with the runtime's `rmdir`: who loses says so, and
has what was read before.
"""
