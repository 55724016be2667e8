"""How early and how complete: real births of four kinds, watched by a real ctrwatch.

The clock is the kernel's (CLOCK_BOOTTIME). A birth begins with the mkdir of the
container's cgroup; "written" is when the line had crossed a pipe and was in its reader's
hands; the first instruction is the kernel's exec event. Containers are born one after
the other, on a machine that does nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench.page import MS, Row, Scale, Section, percentile
from bench.programs import cpu_ns
from bench.progress import say
from ctrwatch.core.describe import wall_ns
from ctrwatch.sensor.host import wall_offset_ns
from tests.live.bed import Bed
from tests.live.watching import Line, Watching


class Kind(NamedTuple):
    name: str
    births: Callable[[Bed, int], Iterator[str]]


class Birth(NamedTuple):
    """Nanoseconds after the mkdir."""

    complete: bool
    written_ns: float
    first_instruction_ns: float

    @property
    def in_time(self) -> bool:
        return self.complete and self.written_ns < self.first_instruction_ns


def docker(bed: Bed, number: int) -> Iterator[str]:
    for _ in range(number):
        container = bed.docker.run("sleep", "600")
        yield container
        bed.docker.remove(container)


def ctr(bed: Bed, number: int) -> Iterator[str]:
    for each in range(number):
        yield bed.ctr.run(f"birth-{each}", "sleep", "600")
        bed.ctr.remove(f"birth-{each}")


def cri(bed: Bed, number: int) -> Iterator[str]:
    pod = bed.cri.pod("bench")
    for each in range(number):
        container = bed.cri.run(pod, f"birth-{each}", "sleep", "600")
        yield container
        bed.cri.remove(container)


def podman(bed: Bed, number: int) -> Iterator[str]:
    for _ in range(number):
        container = bed.podman.run("sleep", "600")
        yield container
        bed.podman.remove(container)


KINDS = (
    Kind("`ctr run`", ctr),
    Kind("CRI container (containerd)", cri),
    Kind("`podman run`", podman),
    Kind("`docker run`", docker),
)


def measure(scale: Scale) -> Section:
    lines, rows = [], []
    for kind in KINDS:
        say(f"births: {kind.name}")
        births, spent_ns = _births(kind, scale.births)
        lines.append(_line(kind.name, births))
        rows.append(
            Row(
                f"{kind.name}: CPU of ctrwatch for a container, birth to removal, ms",
                f"{spent_ns / len(births) / MS:.1f}",
            )
        )
    return Section(
        f"Complete containers, {scale.births} of each", rows, TABLE.format("\n".join(lines))
    )


def _births(kind: Kind, number: int) -> tuple[list[Birth], int]:
    births = []
    with Bed() as bed, Watching() as watching:
        before_ns = cpu_ns(watching.process.pid)
        for container in kind.births(bed, number):
            created = watching.line("container_create", container)
            started = watching.line("container_start", container)
            births.append(_birth(created, started))
        return births, cpu_ns(watching.process.pid) - before_ns


def _birth(created: Line, started: Line) -> Birth:
    born_ns = wall_ns(created.event["time"])
    return Birth(
        complete=created.event["evidence"]["status"] == "complete",
        written_ns=created.arrived_ns + wall_offset_ns() - born_ns,
        first_instruction_ns=wall_ns(started.event["time"]) - born_ns,
    )


def _line(name: str, births: list[Birth]) -> str:
    in_time = sum(birth.in_time for birth in births)
    written = [birth.written_ns / MS for birth in births]
    first = [birth.first_instruction_ns / MS for birth in births]
    cells = (
        name,
        str(len(births)),
        f"{sum(birth.complete for birth in births)} of {len(births)}",
        f"{in_time} of {len(births)} ({in_time / len(births):.0%})",
        f"{percentile(written, 50):.1f} / {percentile(written, 99):.1f}",
        f"{percentile(first, 50):.1f} / {min(first):.1f}",
    )
    return f"| {' | '.join(cells)} |"


TABLE = """## Births
| kind | births | complete | complete before its first instruction | mkdir → written, ms, p50 / p99 | mkdir → first instruction, ms, p50 / least |
|---|---|---|---|---|---|
{}

"Written" is when the line was in the hands of its reader, on the other side of a pipe.
On a hybrid host an event waits for the directory in the unified hierarchy, which the OCI
runtime makes last, and for the container's first process: most of the time shown is the
runtime's own, between its first mkdir and its fork.
"""
