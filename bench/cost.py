"""Cost: CPU for a raw event under load, and what happens when nothing does."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.loss import finish
from bench.page import US, Row, Scale, Section
from bench.programs import Program, Wakes, bpf_runs, floor, ours, wakes
from bench.progress import say
from bench.storm import NAMED, Place, Storm, place

AT_MOST = 3  # times the floor
_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


class Load(NamedTuple):
    """For a raw event."""

    cpu_ns: float
    wakes: float
    bpf_ns: float  # of each run of a BPF program: not in cpu_ns, but in the host's own


def measure(scale: Scale) -> Section:
    loads: dict[str, list[Load]] = {"ours": [], "floor": []}
    with place() as here:
        for turn in range(scale.storms):
            say(f"cost: storm {turn + 1} of {scale.storms}")
            loads["ours"].append(_load(here, _ours, scale.load, named=0))
            loads["floor"].append(_load(here, floor, scale.load, named=0))
        say("cost: a storm with containers in it")
        mixed = {"ours": _load(here, _ours, scale.load, named=NAMED)}
        mixed["floor"] = _load(here, floor, scale.load, named=NAMED)
        with _bpf_stats():
            bpf = _load(here, floor, scale.load, named=0)
    idle = _idle(scale.idle_s)
    mine, least = (statistics.median(each.cpu_ns for each in loads[name]) for name in loads)
    wakes_of = {name: statistics.median(each.wakes for each in loads[name]) for name in loads}
    return Section(
        "Cost",
        [
            Row(
                f"CPU (user and system) for a raw event under load, median of {scale.storms}, µs",
                f"{mine / US:.2f}",
                f"{least / US:.2f}",
                f"at most {AT_MOST} times the floor: {mine / least:.1f}",
                mine <= AT_MOST * least,
            ),
            Row("… wake-ups for a raw event", f"{wakes_of['ours']:.3f}", f"{wakes_of['floor']:.3f}"),
            Row(
                f"… where 1 in {NAMED} is named like a container, of which evidence is looked for, µs",
                f"{mixed['ours'].cpu_ns / US:.2f}",
                f"{mixed['floor'].cpu_ns / US:.2f}",
            ),
            Row(
                "… and of the host, in the BPF program, whoever reads, µs",
                f"{bpf.bpf_ns / US:.2f}",
                f"{bpf.bpf_ns / US:.2f}",
            ),
            Row(
                f"idle for {scale.idle_s:.0f} s: wake-ups of all threads",
                f"{idle['ours'].switches}",
                f"{idle['floor'].switches}",
                "0",
                idle["ours"].switches == 0,
            ),
            Row(
                "… CPU, µs",
                f"{idle['ours'].cpu_ns / US:.0f}",
                f"{idle['floor'].cpu_ns / US:.0f}",
            ),
        ],
    )  # fmt: skip


def _ours() -> Program:
    return ours("--no-existing")


def _load(here: Place, start: Callable[[], Program], number: int, *, named: int) -> Load:
    with start() as program, Storm(here, number, named=named) as storm:
        before, runs = wakes(program.pid), bpf_runs(program.pid)
        storm.begin()
        storm.wait()
        finish(here, program)
        after, ran = wakes(program.pid), bpf_runs(program.pid)
    raw = 2 * number
    return Load(
        (after.cpu_ns - before.cpu_ns) / raw,
        (after.switches - before.switches) / raw,
        (ran.ns - runs.ns) / max(1, ran.times - runs.times),
    )


def _idle(seconds: float) -> dict[str, Wakes]:
    """Both at once: neither does anything to the other."""
    say(f"cost: idle for {seconds:.0f} s")
    with ours() as mine, floor() as least:
        time.sleep(2)  # what start-up left to do
        before = {"ours": wakes(mine.pid), "floor": wakes(least.pid)}
        time.sleep(seconds)
        after = {"ours": wakes(mine.pid), "floor": wakes(least.pid)}
    return {
        name: Wakes(*(new - old for new, old in zip(after[name], before[name], strict=True)))
        for name in before
    }


@contextmanager
def _bpf_stats() -> Iterator[None]:
    before = _STATS.read_text()
    _STATS.write_text("1")
    try:
        yield
    finally:
        _STATS.write_text(before)
