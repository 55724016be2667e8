"""Slow-down of the host: the same containers with and without ctrwatch, in blocks, pair by pair.

Blocks alternate as A B B A, so that what drifts (caches, the clock, other guests) meets both alike.
Within a pair of blocks the nth run with ctrwatch is compared with the nth without.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple

from bench.page import MS, Row, Scale, Section
from bench.programs import ours
from bench.progress import say
from scripts.images import make_bundle
from tests.live.bed import Bed
from tests.live.daemons import PATH
from tests.live.runtimes import IMAGE

BLOCK_S = 3.0  # about so long is a block
AT_MOST = 1.02


class Pairs(NamedTuple):
    with_ns: list[int]
    without_ns: list[int]

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.with_ns, self.without_ns, strict=True)]


def measure(scale: Scale) -> Section:
    with Bed() as bed:
        bundle = make_bundle("runc", bed.home / "bench-bundle", bed.rootfs, ("true",))
        state = bed.home / "bench-state"

        def runc() -> None:
            run("runc", "--root", str(state), "run", "--bundle", str(bundle), "bench")

        docker_words = bed.docker.words("run", "--rm", "--network", "none", IMAGE, "true")
        say("host: docker")
        dockers = _pairs(lambda: run(*docker_words), scale.docker_runs)
        say("host: runc")
        runcs = _pairs(runc, scale.runc_runs)
    return Section(
        "Slow-down of the host, median ratio with / without (95 % interval)",
        [_row("`docker run --rm`", dockers), _row("`runc run`", runcs)],
    )


def run(*words: str) -> None:
    subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
        env={**os.environ, "PATH": PATH},
    )


def _pairs(work: Callable[[], None], number: int) -> Pairs:
    for _ in range(3):
        work()  # the first ones are slow
    begun_s = time.monotonic()
    work()
    block = max(1, round(BLOCK_S / (time.monotonic() - begun_s)))
    pairs = Pairs([], [])
    watched_first = True
    while len(pairs.with_ns) < number:
        size = min(block, number - len(pairs.with_ns))
        for watched in (watched_first, not watched_first):
            if watched:
                with ours("--no-existing"):
                    pairs.with_ns.extend(_times(work, size))
            else:
                pairs.without_ns.extend(_times(work, size))
        watched_first = not watched_first
        say(f"host: {len(pairs.with_ns)} of {number} pairs, {statistics.median(pairs.ratios):.3f}")
    return pairs


def _times(work: Callable[[], None], number: int) -> list[int]:
    work()  # the change's own cost
    took = []
    for _ in range(number):
        begun_ns = time.monotonic_ns()
        work()
        took.append(time.monotonic_ns() - begun_ns)
    return took


def _row(name: str, pairs: Pairs) -> Row:
    ratio = statistics.median(pairs.ratios)
    low, high = _interval(pairs.ratios)
    took = [statistics.median(each) / MS for each in pairs]
    return Row(
        f"{len(pairs.with_ns):,} {name}, {took[0]:.1f} ms with, {took[1]:.1f} ms without",
        f"{ratio:.3f} ({low:.3f}–{high:.3f})",
        "",
        "under 1.02",
        ratio < AT_MOST,
    )


def _interval(values: list[float]) -> tuple[float, float]:
    """Of the median, by order statistics: no assumption about how the values are spread."""
    ordered, count = sorted(values), len(values)
    spread = round(0.98 * count**0.5)  # 1.96 standard deviations of a fair coin's heads
    return ordered[max(0, count // 2 - spread)], ordered[min(count - 1, count // 2 + spread)]
