"""
How early and how complete: 101 real births of each kind, watched by a real ctrwatch.

    make bench                    the table, printed and written to docs/performance.md
    python -m bench fanotify      with that sensor, printed only

The clock is the kernel's (CLOCK_BOOTTIME). A birth begins with the mkdir of the
container's cgroup; "written" is when the line had crossed a pipe and was in its reader's
hands; the first instruction is the kernel's exec event. Containers are born one after
the other, on a machine that does nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from ctrwatch.core.describe import wall_ns
from ctrwatch.sensor.host import wall_offset_ns
from tests.live.bed import Bed
from tests.live.crowd import Crowd
from tests.live.daemons import command
from tests.live.watching import Line, Watching, ctrwatch

BIRTHS = 101  # a prime number shows what a batch size hides
CROWD, RUNS = 1009, 7
TABLE = Path(__file__).parents[1] / "docs/performance.md"
MS = 1e6


class Kind(NamedTuple):
    name: str
    births: Callable[[Bed], Iterator[str]]


class Birth(NamedTuple):
    """Nanoseconds after the mkdir."""

    complete: bool
    written_ns: float
    first_instruction_ns: float


def docker(bed: Bed) -> Iterator[str]:
    for _ in range(BIRTHS):
        container = bed.docker.run("sleep", "600")
        yield container
        bed.docker.remove(container)


def ctr(bed: Bed) -> Iterator[str]:
    for number in range(BIRTHS):
        yield bed.ctr.run(f"birth-{number}", "sleep", "600")
        bed.ctr.remove(f"birth-{number}")


def cri(bed: Bed) -> Iterator[str]:
    pod = bed.cri.pod("bench")
    for number in range(BIRTHS):
        container = bed.cri.run(pod, f"birth-{number}", "sleep", "600")
        yield container
        bed.cri.remove(container)


def podman(bed: Bed) -> Iterator[str]:
    for _ in range(BIRTHS):
        container = bed.podman.run("sleep", "600")
        yield container
        bed.podman.remove(container)


KINDS = (
    Kind("`ctr run`", ctr),
    Kind("CRI container (containerd)", cri),
    Kind("`podman run`", podman),
    Kind("`docker run`", docker),
)


def main() -> None:
    sensor = sys.argv[1] if len(sys.argv) > 1 else "ebpf"
    rows = []
    with Bed() as bed, Watching("--sensor", sensor) as watching:
        for kind in KINDS:
            births = []
            for container in kind.births(bed):
                created = watching.line("container_create", container)
                started = watching.line("container_start", container)
                births.append(birth(created, started))
                if sys.stderr.isatty():
                    print(f"\r{kind.name}: {len(births)} of {BIRTHS}", end="", file=sys.stderr)
            rows.append(row(kind.name, births))
            print(f"\r{rows[-1]}", file=sys.stderr)
    table = "\n".join((*head(), *rows)) + "\n"
    page = PAGE.format(table=table, existing=existing())
    print(page)
    TABLE.write_text(page)


def existing() -> str:
    """A command's whole life: Python's start, the scan, and the evidence of each container."""
    seconds = []
    with Bed() as bed, Crowd(bed.home / "crowd", CROWD):
        for _ in range(RUNS):
            begun = time.monotonic()
            events = [json.loads(line) for line in ctrwatch("ps", "--json").splitlines()]
            seconds.append(time.monotonic() - begun)
    complete = sum(event["evidence"]["status"] == "complete" for event in events)
    return (
        f"{len(events)} containers were there: `ctrwatch ps --json` listed them, {complete} of them"
        f" complete, in {statistics.median(seconds):.2f} s from the command to its end"
        f" (median of {RUNS}, the slowest {max(seconds):.2f} s)."
    )


def birth(created: Line, started: Line) -> Birth:
    born_ns = wall_ns(created.event["time"])
    return Birth(
        complete=created.event["evidence"]["status"] == "complete",
        written_ns=created.arrived_ns + wall_offset_ns() - born_ns,
        first_instruction_ns=wall_ns(started.event["time"]) - born_ns,
    )


def row(name: str, births: list[Birth]) -> str:
    in_time = [
        birth
        for birth in births
        if birth.complete and birth.written_ns < birth.first_instruction_ns
    ]
    written = [birth.written_ns / MS for birth in births]
    first = [birth.first_instruction_ns / MS for birth in births]
    cells = (
        name,
        str(len(births)),
        f"{sum(birth.complete for birth in births)} of {len(births)}",
        f"{len(in_time)} of {len(births)} ({len(in_time) / len(births):.0%})",
        f"{percentile(written, 50):.1f} / {percentile(written, 99):.1f}",
        f"{percentile(first, 50):.1f} / {min(first):.1f}",
    )
    return f"| {' | '.join(cells)} |"


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def head() -> Iterator[str]:
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    yield (
        f"{datetime.now(UTC).date()}: {cpu()},"
        f" {os.cpu_count()} cores, {memory_gb:.0f} GB; Linux {platform.release()};"
        f" Python {platform.python_version()}; {', '.join(versions())}."
    )
    yield ""
    yield (
        "| kind | births | complete | complete before its first instruction |"
        " mkdir → written, ms, p50 / p99 | mkdir → first instruction, ms, p50 / least |"
    )
    yield "|---|---|---|---|---|---|"


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> Iterator[str]:
    for program in ("dockerd", "containerd", "podman", "runc"):
        yield command(program, "--version").splitlines()[0].split(",")[0]


PAGE = """# Performance

Measured by `make bench`, which writes this page.

{table}
{existing}

"Written" is when the line was in the hands of its reader, on the other side of a pipe.
On a hybrid host an event waits for the directory in the unified hierarchy, which the OCI
runtime makes last, and for the container's first process: most of the time shown is the
runtime's own, between its first mkdir and its fork.
"""


if __name__ == "__main__":
    main()
