"""Slow-down of the host: the same containers with and without ctrwatch, in blocks, pair by pair.

A block is a few runs. Blocks with ctrwatch, without, and without once more alternate in a random
order, so that what drifts (caches, the clock, other guests) meets all alike. Within three blocks
the nth run of each is compared with the nth without; what the third kind then shows is the noise.
A hundred runs of Docker's are sure to 3 % only: a thousand to 1 %.

`runc run` is measured one after another, and on a host at rest. The kernel lets the first process
into a cgroup after an RCU grace period, of some 10 ms, unless the last one is not long ago
(cgroup_threadgroup_rwsem, kernel/cgroup/cgroup.c): one after another, half of the runs wait for it,
and which half is chance. At rest all do. So the times have two hills, and their median lies where one
ends: the bar is held to the sums. The median of the ratios pair by pair stands beside them.
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
DRAWINGS = 2_000
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
        "Slow-down of the host: the time of all runs with / without; without / without (95 % interval);"
        " median pair by pair",
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
    ratio, low, high = _ratio(times.watched, times.alone)
    took = [statistics.fmean(each) / MS for each in times]
    return Row(
        f"{len(times.alone):,} {name}, {took[0]:.1f} ms with, {took[1]:.1f} ms without",
        f"{_said(ratio, low, high)}; {_said(*_ratio(times.again, times.alone))};"
        f" {_pair_by_pair(times.watched, times.alone):.3f}",
        "",
        "under 1.02",
        ratio < AT_MOST,
    )


def _pair_by_pair(some: list[int], others: list[int]) -> float:
    return statistics.median(a / b for a, b in zip(some, others, strict=True))


def _said(ratio: float, low: float, high: float) -> str:
    return f"{ratio:.3f} ({low:.3f}–{high:.3f})"


def _ratio(some: list[int], others: list[int]) -> tuple[float, float, float]:
    """Of their sums, and where it lies in 95 of 100 drawings from the blocks."""
    blocks = [
        (sum(some[at : at + BLOCK]), sum(others[at : at + BLOCK]))
        for at in range(0, len(some), BLOCK)
    ]
    draw = random.Random(len(some)).choices
    drawn = sorted(_of_sums(draw(blocks, k=len(blocks))) for _ in range(DRAWINGS))
    return _of_sums(blocks), drawn[DRAWINGS // 40], drawn[-DRAWINGS // 40]


def _of_sums(blocks: list[tuple[int, int]]) -> float:
    some, others = map(sum, zip(*blocks, strict=True))
    return some / others
