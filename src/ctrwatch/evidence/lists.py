"""
What runtimes list: all their containers at once, asked of every daemon that is there.

For the rounds (rounds.py), which compare it with what was heard; no event waits for it. Who does
not answer is named, so that "not listed" is never taken for "unknown".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

import msgspec

from ctrwatch.core.cmdline import is_container_id
from ctrwatch.core.reference import TEXT_MAX
from ctrwatch.core.text import clean
from ctrwatch.evidence.asking import Unanswered
from ctrwatch.model import Listing, Record

__all__ = ("LISTED_BYTES", "MOST", "bounded", "in_time", "listings", "merged", "refused", "within")

T = TypeVar("T")

LIST_S: Final = 5.0  # ten thousand containers of dockerd's take 2 s; nobody waits meanwhile
LISTED_BYTES: Final = 64 << 20  # of one daemon: a containerd lists 6 KB a container, its spec
MOST: Final = 65_536  # containers of one daemon: what a host can have of pids
_SAID: Final = 300  # characters of what is wrong with a daemon


async def listings(
    name: str, sockets: Iterable[str], question: Callable[[str], Awaitable[list[Record]]]
) -> Listing:
    """Put *question* to each socket at once; it may raise `Unanswered`."""

    async def one(socket: str) -> Listing:
        who = f"{name}: {socket}"
        try:
            return bounded(who, await question(socket))
        except Unanswered as error:
            return refused(who, error)

    # Each in a task of its own: grpclib cancels the one that it works in.
    return merged(
        await asyncio.gather(*(within(f"{name}: {socket}", one(socket)) for socket in sockets))
    )


async def within(who: str, question: Awaitable[Listing]) -> Listing:
    """What *question* gives; a word on *who*, a daemon or a storage, if it takes too long."""
    try:
        return await in_time(question)
    except Unanswered as error:
        return refused(who, error)


async def in_time(question: Awaitable[T]) -> T:
    """What *question* gives. Raises `Unanswered` if it takes too long."""
    try:
        async with asyncio.timeout(LIST_S):
            return await question
    except TimeoutError:
        raise Unanswered(f"no list in {LIST_S:g} s") from None


def bounded(who: str, records: list[Record]) -> Listing:
    """
    All of them, or as many as are read, with a word on the rest.

    What a daemon or a file calls an id, and no runtime would take as one, is nobody's.
    """
    known = [each for each in records[:MOST] if is_container_id(each.container_id)]
    unavailable = []
    if len(records) > MOST:
        unavailable.append(f"{who}: {len(records)} containers, of which {MOST} were read")
    if bad := len(records[:MOST]) - len(known):
        unavailable.append(f"{who}: {bad} containers without a valid id were left out")
    return Listing(
        records=tuple(_cut(each) for each in known),
        unavailable=tuple(clean(each, _SAID) for each in unavailable),
    )


def refused(who: str, why: Exception) -> Listing:
    """*who* could not be asked."""
    return Listing(unavailable=(clean(f"{who}: {why}", _SAID),))


def merged(parts: Iterable[Listing]) -> Listing:
    """
    In a stable order: by source, id and whose it is.

    Two of one id stay two: a user's daemon may list any id, and so may a namespace of containerd's.
    """
    parts = [*parts]
    # What two sockets of one daemon say alike is one.
    records = dict.fromkeys(each for part in parts for each in part.records)
    return Listing(
        records=tuple(sorted(records, key=_place)),
        unavailable=tuple(why for part in parts for why in part.unavailable),
    )


def _place(record: Record) -> tuple[str, str, int, str]:
    return record.source, record.container_id, record.uid, record.runtime


def _cut(record: Record) -> Record:
    """With a name and an image that fit into an event."""
    name, image = record.name, record.image
    if max(len(name), len(image)) <= TEXT_MAX:
        return record
    return msgspec.structs.replace(record, name=name[:TEXT_MAX], image=image[:TEXT_MAX])
