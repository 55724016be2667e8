"""Latency: from the kernel's mkdir to the line in its reader's hands, on the other side of a pipe.

With `--wait 0`, so that it is the way of the data and nothing else; how early a real container's
whole event is there stands under births.
"""

from __future__ import annotations

import json
import re
import time

from bench.loss import finish
from bench.page import US, Row, Scale, Section, two
from bench.programs import Program, floor, ours
from bench.progress import say
from bench.storm import Place, Storm, container, place
from ctrwatch.core.describe import wall_ns
from ctrwatch.sensor.host import wall_offset_ns

PAUSE_S = 0.03  # between two lonely births: everybody is asleep again
_FLOORS = re.compile(rb"^(\d+) .*/docker/[0-9a-f]{64}$")


def measure(scale: Scale) -> Section:
    with place() as here:
        say("latency: one at a time")
        with ours("--wait", "0", "--no-existing") as program:
            our_idle = _lonely(here, program, scale.lonely)
        with floor("-t") as program:
            floor_idle = _lonely(here, program, scale.lonely)
        say("latency: in the storm")
        with ours("--wait", "0", "--no-existing") as program:
            our_storm = _in_storm(here, program, scale.storm)
        with floor("-t") as program:
            floor_storm = _in_storm(here, program, scale.storm)
    return Section(
        "Latency, kernel's mkdir → line with its reader, p50 / p99 (`--wait 0`)",
        [
            Row(f"idle, {scale.lonely:,} births one at a time, µs", two(our_idle, 0), two(floor_idle, 0)),
            Row(
                f"in the storm of {scale.storm:,} cgroups, µs",
                f"{two(our_storm, 0)} (most {max(our_storm):,.0f})",
                f"{two(floor_storm, 0)} (most {max(floor_storm):,.0f})",
            ),
        ],
    )  # fmt: skip


def _lonely(here: Place, program: Program, number: int) -> list[float]:
    for each in range(number):
        name = container(each)
        directory = here.make(name)
        program.until_line(name.encode())
        directory.rmdir()
        time.sleep(PAUSE_S)
    return _latencies(program)


def _in_storm(here: Place, program: Program, number: int) -> list[float]:
    with Storm(here, number) as storm:
        storm.begin()
        storm.wait()
        finish(here, program)
    return _latencies(program)


def _latencies(program: Program) -> list[float]:
    """Microseconds, of each container."""
    offset_ns = wall_offset_ns()
    took = []
    for arrived_ns, line in program.lines():
        if line.startswith(b"{"):
            event = json.loads(line)
            if event["event"] == "container_create":
                took.append(arrived_ns + offset_ns - wall_ns(event["time"]))
        elif (found := _FLOORS.match(line)) is not None:
            took.append(arrived_ns - int(found[1]))
    return [each / US for each in took]
