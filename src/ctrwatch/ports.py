"""The seams: what a sensor, a source of evidence and an output must do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from ctrwatch.model import Answer, Listing, RawEvent, Subject


class Sensor(Protocol):
    """Hears of cgroups. Batches are in the kernel's order; an empty one is never sent."""

    name: str
    without: str  # why it can't tell of first instructions; "": it does
    tells_init: bool  # has raw events of first processes, too
    capabilities: frozenset[str]  # that it needs after it was attached
    unreadable: int  # records of another shape than this build's

    def batches(self) -> AsyncIterator[Sequence[RawEvent]]: ...

    def lost(self) -> int:
        """Records dropped since the sensor was attached."""
        ...

    def idle(self) -> bool:
        """Nothing waits to be read."""
        ...

    def close(self) -> None: ...


class Source(Protocol):
    """
    Knows something of containers: a bundle, a runtime's files, a runtime's API.

    `ask` never raises for what a stranger wrote or a daemon did: that is
    `Unavailable` with a sentence. It may be cancelled at its deadline at any await.
    """

    name: str

    async def ask(self, subject: Subject) -> Answer: ...

    async def close(self) -> None: ...


class Lister(Protocol):
    """A runtime that says which containers it has. Never raises for what a daemon did."""

    name: str

    async def records(self) -> Listing: ...


class Output(Protocol):
    """Takes finished lines. Never blocks the caller; what it drops it counts."""

    dropped: int

    def write(self, line: bytes) -> None: ...

    def close(self) -> None: ...
