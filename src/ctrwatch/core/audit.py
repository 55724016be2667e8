"""
What the kernel showed, against what the runtimes list. Pure: values in, findings out.

Not every difference is a finding. A list is taken at one moment, a watch goes on: what was
made or removed meanwhile differs for an instant. So a container that a runtime lists as running
must have been announced if it is older than a few seconds; and one that was announced must be
known to its runtime, unless a runtime did not answer, or it is another user's, or another
container's, whose daemon can't be reached from here. What a user's own daemon lists is left
out: it could list anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from ctrwatch.event import ContainerEvent
from ctrwatch.model import Listing, Record, Runtime

__all__ = ("Doubt", "doubts", "forgotten", "missed")

_GRACE_NS: Final = 5_000_000_000  # from "running" to its announcement; a deadline is 2 s
_TICK_NS: Final = 1_000_000_000  # dockerd lists whole seconds
_LISTED_BY: Final[Mapping[Runtime, frozenset[str]]] = {
    Runtime.DOCKER: frozenset({"docker"}),
    Runtime.CONTAINERD: frozenset({"containerd"}),
    Runtime.CRIO: frozenset({"cri"}),
    Runtime.PODMAN: frozenset({"podman.files"}),
}


class Doubt(NamedTuple):
    """A living container that no list has; asked for by itself it may be known after all."""

    serial: int
    event: ContainerEvent


def missed(listing: Listing, announced: frozenset[str], now_ns: int) -> list[Record]:
    """Running by a runtime's list, older than a few seconds, and not *announced* (ids)."""
    found: dict[str, Record] = {}
    for record in filter(_is_roots, listing.records):
        is_new = record.created_ns is None or now_ns - record.created_ns < _GRACE_NS
        if record.running and not is_new and record.container_id not in announced:
            found.setdefault(record.container_id, record)
    return list(found.values())


def doubts(listing: Listing, living: Iterable[tuple[int, ContainerEvent]]) -> list[Doubt]:
    """
    Who lives, and is in no list where it should be: its runtime's, or anybody's.

    *living*: by serial, as each was told last. Of a container that root did not make, or
    inside of another one, the lists from here say nothing.
    """
    roots = [*filter(_is_roots, listing.records)]
    known = {record.container_id for record in roots}
    sources = {record.source for record in roots}
    found = []
    for serial, event in living:
        if event.container_id in known or event.outer or event.creator.uid not in {0, None}:
            continue
        is_listed = bool(_LISTED_BY.get(event.runtime, frozenset()) & sources)
        if (is_listed and not listing.unavailable) or event.evidence.status == "unverified":
            found.append(Doubt(serial, event))
    return found


def forgotten(
    listing: Listing, announced: frozenset[str], since_ns: int, until_ns: int
) -> list[Record]:
    """Born between the two (wall clock), not running any more, and not *announced* (ids)."""
    found: dict[str, Record] = {}
    for record in filter(_is_roots, listing.records):
        created_ns = record.created_ns
        born_then = created_ns is not None and since_ns - _TICK_NS <= created_ns <= until_ns
        if born_then and not record.running and record.container_id not in announced:
            found.setdefault(record.container_id, record)
    return list(found.values())


def _is_roots(record: Record) -> bool:
    return record.uid == 0
