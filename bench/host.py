"""Slow-down of the host: the same containers with and without ctrwatch, in blocks, pair by pair.

A block is a few runs. Blocks with ctrwatch, without, and without once more alternate in a random
order, so that what drifts (caches, the clock, other guests) meets all alike. Within three blocks
the nth run of each is compared with the nth without; what the third kind then shows is the noise.

`runc run` is measured one after another, and on a host at rest. The kernel lets the first process
into a cgroup after an RCU grace period, of some 10 ms, unless the last one is not long ago
(cgroup_threadgroup_rwsem, kernel/cgroup/cgroup.c): one after another, half of the runs wait for it,
and which half is chance. At rest all do.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

from bench.page import MS, Row, Scale, Section
from bench.programs import ours
from bench.progress import say
from scripts.images import make_bundle
from tests.live.bed import Bed
from tests.live.daemons import PATH
from tests.live.runtimes import IMAGE

BLOCK = 5  # runs
FIRST = 2  # runs of a block that are not counted: they pay for the change
REST_S = 0.03  # what the kernel has to do after a container is over by then
SAID = 100  # runs between two words of progress
AT_MOST = 1.02


class Times(NamedTuple):
    """Of the same number of runs each, ns."""

    watched: list[int]
    alone: list[int]
    again: list[int]  # alone, too


def measure(scale: Scale) -> Section:
    with Bed() as bed:
        bundle = make_bundle("runc", bed.home / "bench-bundle", bed.rootfs, ("true",))
        state = bed.home / "bench-state"

        def runc() -> None:
            run("runc", "--root", str(state), "run", "--bundle", str(bundle), "bench")

        docker_words = bed.docker.words("run", "--rm", "--network", "none", IMAGE, "true")
        dockers = _times("docker", lambda: run(*docker_words), scale.docker_runs)
        runcs = _times("runc", runc, scale.runc_runs)
        rested = _times("runc at rest", runc, scale.runc_runs, REST_S)
    return Section(
        "Slow-down of the host, median ratio with / without; without / without (95 % interval)",
        [
            _row("`docker run --rm`", dockers),
            _row("`runc run`, one after another", runcs),
            _row(f"`runc run`, each after {REST_S * 1000:.0f} ms of rest", rested),
        ],
    )


def run(*words: str) -> None:
    subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
        env={**os.environ, "PATH": PATH},
    )


def _times(name: str, work: Callable[[], None], number: int, rest_s: float = 0.0) -> Times:
    times = Times([], [], [])
    shuffle = random.Random(number).shuffle
    while (missing := number - len(times.alone)) > 0:
        blocks = [*times]
        shuffle(blocks)
        for block in blocks:
            with ours("--no-existing") if block is times.watched else nullcontext():
                block.extend(_block(work, min(BLOCK, missing), rest_s))
        if len(times.alone) % SAID < BLOCK:
            say(f"host: {name}: {len(times.alone):,} of {number:,}")
    return times


def _block(work: Callable[[], None], number: int, rest_s: float) -> list[int]:
    took = []
    for _ in range(FIRST + number):
        time.sleep(rest_s)
        begun_ns = time.monotonic_ns()
        work()
        took.append(time.monotonic_ns() - begun_ns)
    return took[FIRST:]


def _row(name: str, times: Times) -> Row:
    ratios = _ratios(times.watched, times.alone)
    took = [statistics.median(each) / MS for each in times]
    return Row(
        f"{len(times.alone):,} {name}, {took[0]:.1f} ms with, {took[1]:.1f} ms without",
        f"{_said(ratios)}; {_said(_ratios(times.again, times.alone))}",
        "",
        "under 1.02",
        statistics.median(ratios) < AT_MOST,
    )


def _ratios(some: list[int], others: list[int]) -> list[float]:
    return [a / b for a, b in zip(some, others, strict=True)]


def _said(ratios: list[float]) -> str:
    low, high = _interval(ratios)
    return f"{statistics.median(ratios):.3f} ({low:.3f}–{high:.3f})"


def _interval(values: list[float]) -> tuple[float, float]:
    """Of the median, by order statistics: no assumption about how the values are spread."""
    ordered, count = sorted(values), len(values)
    spread = round(0.98 * count**0.5)  # 1.96 standard deviations of a fair coin's heads
    return ordered[max(0, count // 2 - spread)], ordered[min(count - 1, count // 2 + spread)]
