"""Going the ways under the eyes of a real ctrwatch, and what became of each."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from ctrwatch.core.describe import wall_ns
from ctrwatch.model import FINAL
from ctrwatch.sensor.host import wall_offset_ns
from tests.live.bed import Bed
from tests.live.daemons import BedError
from tests.live.watching import Event, Line
from tests.matrix.ways import Birth, NotHere, Way

__all__ = ("Heard", "Outcome", "go")

# From the first instruction to its line takes milliseconds, in an emulated machine a second.
DEADLINE_S: Final = 15
_ID: Final = re.compile(r"\b[0-9a-f]{64}\b")  # another one in each run


class Heard(Protocol):
    """What a ctrwatch says: one that runs here, or a service."""

    lines: list[Line]

    def wait(self, seconds: float) -> None:
        """For the next line, but no longer."""
        ...


class Outcome(msgspec.Struct, kw_only=True):
    """What became of one way: of so many containers that were *born*, how many were …"""

    born: int = 0
    seen: int = 0  # announced, once
    complete: int = 0
    in_time: int = 0  # and in the reader's hands before their first instruction
    ended: int = 0  # their removal was told
    wrong: list[str] = []  # what an event says that isn't so, or doesn't say
    besides: list[str] = []  # announced, and none: their paths
    not_run: str = ""  # why


def go(ways: Iterable[Way], bed: Bed, watching: Heard) -> Iterator[tuple[Way, Outcome]]:
    for way in ways:
        outcome = Outcome()
        try:
            _go(way, bed, watching, outcome)
        except (NotHere, BedError, TimeoutError) as error:
            said = [line for line in str(error).splitlines() if line.strip()]
            outcome.not_run = _ID.sub("…", said[-1].strip())
        yield way, outcome


def _go(way: Way, bed: Bed, watching: Heard, outcome: Outcome) -> None:
    _ready(bed)
    begun = len(watching.lines)
    claimed: list[Line] = []
    for birth in way.births(bed):
        outcome.born += 1
        line = _announced(watching, birth, begun, claimed)
        if line is not None:
            claimed.append(line)
            _judge(watching, birth, line, outcome)
    for line in claimed:
        outcome.ended += _later(watching, "container_remove", line) is not None
    told = [line for line in _creates(watching, begun) if line not in claimed]
    outcome.besides = [str(line.event["cgroup"]["path"]) for line in told]


def _ready(bed: Bed) -> None:
    """What a runtime's start itself makes is no way's."""
    _ = bed.docker, bed.image, bed.pause


def _announced(watching: Heard, birth: Birth, begun: int, claimed: list[Line]) -> Line | None:
    def candidates() -> list[Line]:
        return [
            line
            for line in _creates(watching, begun)
            if line not in claimed and _is(birth, line.event)
        ]

    if not _wait(watching, lambda: bool(candidates())):
        return None
    return candidates()[0]


def _is(birth: Birth, event: Event) -> bool:
    if birth.container_id:
        return bool(event["container_id"] == birth.container_id)
    return bool(event["runtime"] == birth.fields["runtime"])


def _judge(watching: Heard, birth: Birth, line: Line, outcome: Outcome) -> None:
    event = line.event
    outcome.seen += 1
    status = event["evidence"]["status"]
    outcome.complete += status == "complete"
    if status != "complete":
        missing = event["evidence"]["missing"]
        outcome.wrong += [
            f"{field}: {reason}" for field, reason in missing.items() if reason not in FINAL
        ]
        if status == "unverified":
            outcome.wrong.append("unverified")
    started = _later(watching, "container_start", line)
    if started is None:
        outcome.wrong.append("no container_start")
    elif line.arrived_ns + wall_offset_ns() < wall_ns(started.event["time"]):
        outcome.in_time += status == "complete"
    for field, value in birth.fields.items():
        said = _value(event, field)
        if not _says(said, value):
            outcome.wrong.append(f"{field} is {said!r}, not {value!r}")


def _value(event: Event, field: str) -> Any:
    value: Any = event
    for name in field.split("."):
        value = value[name]
    return value


def _says(said: Any, value: Any) -> bool:
    if isinstance(value, Mapping):
        return isinstance(said, Mapping) and value.items() <= said.items()
    return bool(said == value)


def _later(watching: Heard, name: str, created: Line) -> Line | None:
    """An event of the same birth: its id begins with the birth's."""

    def found() -> list[Line]:
        birth = created.event["id"]
        return [
            line
            for line in list(watching.lines)
            if line.event["event"] == name and line.event["id"].startswith(birth)
        ]

    return found()[0] if _wait(watching, lambda: bool(found())) else None


def _creates(watching: Heard, begun: int) -> list[Line]:
    lines = watching.lines[begun:]
    return [line for line in lines if line.event["event"] == "container_create"]


def _wait(watching: Heard, holds: Any) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if holds():
            return True
        watching.wait(0.2)
    return bool(holds())
