"""Enforcement: containers that a rule forbids, killed. How many had run anything by then?

Each is started as a user starts it; the first thing that it does is to write a file into a directory of the
host's. The kernel's word for its first instruction is `container_start`. Every ninth is run
again with a dry run, which changes nothing.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.page import MS, Scale, Section, two
from bench.progress import say
from ctrwatch.core.describe import wall_ns
from tests.live.bed import Bed
from tests.live.forbidden import attempt, enforced, enforcing, of, prepare, remove

NAMES = {
    "ctr": "`ctr run`",
    "cri": "CRI container (containerd)",
    "podman": "`podman run`",
    "docker": "`docker run`",
}
_IDS = re.compile(r"[0-9a-f]{64}|/tmp/\S+")


class Killed(NamedTuple):
    name: str
    tried: int
    done: int
    before: int  # its first instruction, by the kernel's word
    wrote: int  # files
    struck_ms: list[float]  # from the mkdir to the strike
    seen: str  # what most users got to see
    dry: int
    dry_ran: int


def measure(scale: Scale) -> Section:
    lines = [_line(_killed(way, scale.births)) for way in NAMES]
    return Section("", [], TABLE.format(scale.births, "\n".join(lines)))


def _killed(way: str, number: int) -> Killed:
    say(f"enforcement: {NAMES[way]}")
    with Bed() as bed, _marks() as mark:
        prepare(bed, way)
        done = before = wrote = 0
        seen: Counter[str] = Counter()
        struck_ms = []
        with enforcing("kill") as watching:
            for each in range(number):
                tried = attempt(bed, way, mark, f"forbidden-{each}")
                event = enforced(watching, tried.name)
                done += event["result"] == "done"
                before += not of(watching, "container_start", tried.name)
                born_ns = wall_ns(of(watching, "container_create", tried.name)[0]["time"])
                struck_ms.append((wall_ns(event["time"]) - born_ns) / MS)
                seen[_short(tried.said)] += 1
                remove(bed, way, tried.name)
                wrote += (mark / tried.name).exists()
        said, tries = seen.most_common(1)[0][0], number // 9
        dry = _dry(bed, way, mark, tries)
        return Killed(NAMES[way], number, done, before, wrote, struck_ms, said, tries, dry)


def _dry(bed: Bed, way: str, mark: Path, number: int) -> int:
    """How many ran that would have been killed."""
    ran = 0
    with enforcing("kill", "--enforce=dry-run") as watching:
        for each in range(number):
            tried = attempt(bed, way, mark, f"forbidden-dry-{each}")
            event = enforced(watching, tried.name)
            watching.until(
                lambda name=tried.name: bool(of(watching, "container_start", name)),  # type: ignore[misc]
                "its start",
            )
            ran += event["result"] == "dry_run" and tried.said == ""
            remove(bed, way, tried.name)
    return ran


@contextmanager
def _marks() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ctrwatch-marks-") as directory:
        os.chmod(directory, 0o777)
        yield Path(directory)


def _short(said: str) -> str:
    """The last line, without what differs from one to the next."""
    line = said.strip().splitlines()[-1] if said.strip() else "started"
    return _IDS.sub("…", line)[:200].replace("|", "/")


def _line(killed: Killed) -> str:
    cells = (
        killed.name,
        str(killed.tried),
        f"{killed.done} of {killed.tried}",
        f"{killed.before} of {killed.tried} ({killed.before / killed.tried:.0%})",
        str(killed.wrote),
        two(killed.struck_ms, 1),
        f"`{killed.seen}`",
        f"{killed.dry_ran} of {killed.dry}",
    )
    return f"| {' | '.join(cells)} |"


TABLE = """## Enforcement
{} containers of each kind that a rule forbids, with `--enforce`. Each would write a file first of all.

| kind | containers | killed | before its first instruction | files written | mkdir → strike, ms, p50 / p99 | what its user sees, mostly | dry run: ran |
|---|---|---|---|---|---|---|---|
{}

The first instruction is the kernel's exec event. What a dry run lets through ran as ever.
"""
