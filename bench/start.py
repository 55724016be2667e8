"""Start: from the command to attached, to listening, to a full host listed."""

from __future__ import annotations

import json
import statistics
import time

from bench.page import MS, Row, Scale, Section
from bench.programs import floor, ours
from bench.progress import say
from tests.live.bed import Bed
from tests.live.crowd import Crowd
from tests.live.watching import ctrwatch


def measure(scale: Scale) -> Section:
    say("start: an empty host")
    with ours():
        pass  # its modules are compiled
    empty = [_start() for _ in range(scale.starts)]
    least = [_floor_start() for _ in range(scale.starts)]
    say(f"start: making {scale.crowd:,} containers")
    with Bed() as bed, Crowd(bed.home / "crowd", scale.crowd):
        say(f"start: {scale.crowd:,} containers")
        full = [_start() for _ in range(scale.starts)]
        listed, complete, seconds = _ps(scale.starts)
    return Section(
        f"Start, from the command, median of {scale.starts} (slowest)",
        [
            Row("attached: from here on no birth is missed, ms", _both(empty, 0), _times(least)),
            Row("listening, on a host without containers, ms", _both(empty, 1)),
            Row(f"{scale.crowd:,} existing containers listed, ms", _both(full, 1)),
            Row(
                f"`ctrwatch ps --json`, {listed:,} listed, {complete:,} of them complete, ms",
                _times([each * 1e9 for each in seconds]),
            ),
        ],
    )


def _start() -> tuple[float, float]:
    with ours() as program:
        attached, listening = program.time_of("watching"), program.time_of("listening")
    assert attached is not None
    assert listening is not None
    return attached - program.begun_ns, listening - program.begun_ns


def _floor_start() -> float:
    with floor() as program:
        attached = program.time_of("attached")
    assert attached is not None
    return attached - program.begun_ns


def _ps(runs: int) -> tuple[int, int, list[float]]:
    """A command's whole life: Python's start, the scan, and the evidence of each container."""
    seconds = []
    for _ in range(runs):
        begun_s = time.monotonic()
        events = [json.loads(line) for line in ctrwatch("ps", "--json").splitlines()]
        seconds.append(time.monotonic() - begun_s)
    complete = sum(event["evidence"]["status"] == "complete" for event in events)
    return len(events), complete, seconds


def _both(starts: list[tuple[float, float]], which: int) -> str:
    return _times([each[which] for each in starts])


def _times(took_ns: list[float]) -> str:
    return f"{statistics.median(took_ns) / MS:.0f} ({max(took_ns) / MS:.0f})"
